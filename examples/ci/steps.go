package main

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

const defaultTimeout = 10 * time.Minute

// A step is a command of the file.
type step struct {
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
	errNoSteps = errors.New("there are no steps")
	errField   = errors.New("bad field")
	errTwice   = errors.New("name is there twice")
	errUnknown = errors.New("needs a step that is not there")
	errCycle   = errors.New("needs itself")
)

// validName is for a name that is that of a file as well.
var validName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$`)

// load reads the steps and makes sure that they can be run.
func load(path string) ([]*step, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var list struct{ Steps []*step }
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

func check(steps []*step) error {
	if len(steps) == 0 {
		return errNoSteps
	}
	byName := map[string]*step{}
	for i, s := range steps {
		switch {
		case s == nil || !validName.MatchString(s.Name):
			return fmt.Errorf("step %d: %w: name", i+1, errField)
		case byName[s.Name] != nil:
			return fmt.Errorf("step %s: %w", s.Name, errTwice)
		case strings.TrimSpace(s.Run) == "":
			return fmt.Errorf("step %s: %w: run is empty", s.Name, errField)
		case s.Timeout < 0 || s.Retry < 0 || s.Pause < 0:
			return fmt.Errorf("step %s: %w: a number is negative", s.Name, errField)
		case s.Timeout == 0:
			s.Timeout = defaultTimeout
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
func follow(s *step, byName map[string]*step, sound map[string]bool, path []string) error {
	if sound[s.Name] {
		return nil
	}
	again := slices.Index(path, s.Name)
	path = append(path, s.Name)
	if again >= 0 {
		return fmt.Errorf("step %s: %w: %s", s.Name, errCycle, strings.Join(path[again:], " needs "))
	}
	for _, name := range s.Needs {
		need := byName[name]
		if need == nil {
			return fmt.Errorf("step %s: %w: %q", s.Name, errUnknown, name)
		}
		if err := follow(need, byName, sound, path); err != nil {
			return err
		}
	}
	sound[s.Name] = true
	return nil
}
