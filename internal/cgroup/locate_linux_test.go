package cgroup

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec/internal/procfs"
)

const (
	tmpfs    = "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n"
	v1       = "39 31 0:36 / /sys/fs/cgroup/pids rw,relatime - cgroup cgroup rw,pids\n"
	v2Hybrid = "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime shared:9 - cgroup2 cgroup2 rw\n"
	v2       = "35 24 0:30 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
)

func TestLocate(t *testing.T) {
	for _, tt := range []struct {
		name, mounts, own string
		hidden            string // a mount point that turns out to be something else
		dir               string
		err               error
	}{
		{"unified", v2, "0::/user.slice/a b.scope\n", "", "/sys/fs/cgroup/user.slice/a b.scope", nil},
		{"root", v2, "0::/\n", "", "/sys/fs/cgroup", nil},
		{"hybrid", tmpfs + v1 + v2Hybrid, "8:pids:/x\n1:name=systemd:/y\n0::/z\n", "", "/sys/fs/cgroup/unified/z", nil},
		{"namespaced", "900 1 0:30 / /sys/fs/cgroup ro - cgroup2 cgroup rw\n", "0::/\n", "", "/sys/fs/cgroup", nil},
		{"part of it mounted", "9 1 0:30 /docker/abc /sys/fs/cgroup ro - cgroup2 cgroup rw\n",
			"0::/docker/abc/init\n", "", "/sys/fs/cgroup/init", nil},
		{"our part mounted", "9 1 0:30 /docker/abc /cg ro - cgroup2 cgroup rw\n", "0::/docker/abc\n", "", "/cg", nil},
		{"another part mounted", "9 1 0:30 /docker/abc /cg ro - cgroup2 cgroup rw\n", "0::/docker/abcd\n", "", "", errOutside},
		{"mounted from above our namespace", "9 1 0:30 /.. /cg ro - cgroup2 cgroup rw\n", "0::/\n", "", "", errOutside},
		{"ourselves above our namespace", v2, "0::/../other\n", "", "", errOutside},
		{"both above our namespace", "9 1 0:30 /.. /cg ro - cgroup2 cgroup rw\n", "0::/../other\n", "", "/cg/other", nil},
		{"at the root", "9 1 0:30 / / rw - cgroup2 cgroup rw\n", "0::/a\n", "", "/a", nil},
		{"blank in a mount point", "9 1 0:30 / /c\\040g rw - cgroup2 cgroup rw\n", "0::/a\n", "", "/c g/a", nil},
		{"mounted twice", v2Hybrid + v2, "0::/a\n", "", "/sys/fs/cgroup/a", nil},
		{"mounted twice, one hidden", v2Hybrid + v2, "0::/a\n", "/sys/fs/cgroup/a", "/sys/fs/cgroup/unified/a", nil},
		{"hidden", v2, "0::/a\n", "/sys/fs/cgroup/a", "", errNotV2},
		{"version 1 alone", tmpfs + v1, "8:pids:/x\n", "", "", errNoCgroup},
		{"version 2 not mounted", tmpfs + v1, "8:pids:/x\n0::/\n", "", "", errNoMount},
		{"nothing", "", "", "", "", errNoCgroup},
	} {
		t.Run(tt.name, func(t *testing.T) {
			mounts, err := procfs.ParseMountInfo([]byte(tt.mounts))
			require.NoError(t, err)
			own, err := procfs.ParseCGroups([]byte(tt.own))
			require.NoError(t, err)
			dir, err := locate(mounts, pathOf(own), func(dir string) error {
				if dir == tt.hidden {
					return &Error{Op: "look", Dir: dir, Err: errNotV2}
				}
				return nil
			})
			assert.Equal(t, tt.dir, dir)
			if tt.err == nil {
				require.NoError(t, err)
				return
			}
			require.ErrorIs(t, err, tt.err)
			var e *Error
			require.True(t, errors.As(err, &e))
		})
	}
}

// What is mounted is read once, and again as soon as our cgroup has another path or is on another mount.
func TestOwnDirIsFoundAnew(t *testing.T) {
	dir, err := ownDir()
	if err != nil {
		t.Skipf("needs a cgroup v2: %v", err)
	}
	found := ownPlace.Load()
	if found == nil {
		t.Skip("needs numbers of mounts that are not reused, Linux 6.8")
	}
	defer ownPlace.Store(found)
	assert.Equal(t, dir, found.dir)
	for name, stale := range map[string]*place{
		"never found":   nil,
		"another path":  {path: found.path + "/a", dir: dir + "/.", mount: found.mount},
		"another mount": {path: found.path, dir: dir + "/.", mount: found.mount + 1},
		"gone":          {path: found.path, dir: dir + "/safeexec-none", mount: found.mount},
		"not mounted":   {path: found.path, dir: t.TempDir(), mount: found.mount},
	} {
		ownPlace.Store(stale)
		got, err := ownDir()
		require.NoError(t, err, name)
		assert.Equal(t, dir, got, name)
		assert.Equal(t, found, ownPlace.Load(), name)
	}
	ownPlace.Store(&place{path: found.path, dir: dir + "/.", mount: found.mount})
	got, err := ownDir()
	require.NoError(t, err)
	assert.Equal(t, dir+"/.", got, "as it was found before")
}

// A tmpfs lets directories be made all the same; that is how version 1 hierarchies are mounted.
func TestNotACgroup(t *testing.T) {
	dir := t.TempDir()
	_, err := Make(dir)
	require.ErrorIs(t, err, errNotV2)
	assert.ErrorContains(t, err, dir)
	_, err = RemoveStale(dir)
	require.ErrorIs(t, err, errNotV2)
	_, err = Make("/nonexistent")
	require.Error(t, err)
}
