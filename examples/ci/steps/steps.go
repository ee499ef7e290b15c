// Package steps reads the YAML file of the steps.
package steps

import (
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// DefaultTimeout is the timeout of a step without one.
const DefaultTimeout = 10 * time.Minute

// A Step is a command of the file.
type Step struct {
	Name    string
	Run     string // for a shell, which ends at the first command that fails
	Needs   []string
	Dir     string
	Env     map[string]string
	Timeout time.Duration
	Retry   int
	Pause   time.Duration
}

// What can be wrong with a file, besides what the package yaml says.
var (
	ErrNoSteps = errors.New("there are no steps")
	ErrField   = errors.New("bad field")
	ErrTwice   = errors.New("name is there twice")
	ErrUnknown = errors.New("needs a step that is not there")
	ErrCycle   = errors.New("needs itself")
)

// validName is for a name that is that of a file as well.
var validName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$`)

// Load reads the steps and makes sure that they can be run.
func Load(path string) ([]*Step, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var list struct{ Steps []*Step }
	decoder := yaml.NewDecoder(f)
	decoder.KnownFields(true)
	if err = decoder.Decode(&list); err == nil || errors.Is(err, io.EOF) {
		err = check(list.Steps)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return list.Steps, nil
}

func check(steps []*Step) error {
	if len(steps) == 0 {
		return ErrNoSteps
	}
	byName := map[string]*Step{}
	for i, s := range steps {
		switch {
		case s == nil || !validName.MatchString(s.Name):
			return fmt.Errorf("step %d: %w: name", i+1, ErrField)
		case byName[s.Name] != nil:
			return fmt.Errorf("step %s: %w", s.Name, ErrTwice)
		case strings.TrimSpace(s.Run) == "":
			return fmt.Errorf("step %s: %w: run is empty", s.Name, ErrField)
		case s.Timeout < 0 || s.Retry < 0 || s.Pause < 0:
			return fmt.Errorf("step %s: %w: a number is negative", s.Name, ErrField)
		case s.Timeout == 0:
			s.Timeout = DefaultTimeout
		}
		byName[s.Name] = s
	}
	sound := map[string]bool{}
	for _, s := range steps {
		if err := follow(s, byName, sound, nil); err != nil {
			return err
		}
	}
	return nil
}

// follow goes from s to all that it needs; path is how it got there.
func follow(s *Step, byName map[string]*Step, sound map[string]bool, path []string) error {
	if sound[s.Name] {
		return nil
	}
	again := slices.Index(path, s.Name)
	path = append(path, s.Name)
	if again >= 0 {
		return fmt.Errorf("step %s: %w: %s", s.Name, ErrCycle, strings.Join(path[again:], " needs "))
	}
	for _, name := range s.Needs {
		need := byName[name]
		if need == nil {
			return fmt.Errorf("step %s: %w: %q", s.Name, ErrUnknown, name)
		}
		if err := follow(need, byName, sound, path); err != nil {
			return err
		}
	}
	sound[s.Name] = true
	return nil
}
