package procfs

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestParseFDTarget(t *testing.T) {
	for link, want := range map[string]FDTarget{
		"pipe:[123]":                     {Kind: FDPipe, Inode: 123},
		"socket:[18446744073709551615]":  {Kind: FDSocket, Inode: 1<<64 - 1},
		"anon_inode:[eventpoll]":         {Kind: FDAnon, Name: "eventpoll"},
		"anon_inode:inotify":             {Kind: FDAnon, Name: "inotify"},
		"anon_inode:[":                   {Kind: FDAnon, Name: "["},
		"anon_inode:":                    {Kind: FDAnon},
		"net:[4026531840]":               {Kind: FDOther, Name: "net", Inode: 4026531840},
		"/tmp/a b\n":                     {Kind: FDPath, Name: "/tmp/a b\n"},
		"/tmp/x (deleted)":               {Kind: FDPath, Name: "/tmp/x", Deleted: true},
		"/tmp/x (deleted) (deleted)":     {Kind: FDPath, Name: "/tmp/x (deleted)", Deleted: true},
		"/memfd:x (deleted)":             {Kind: FDMemfd, Name: "x", Deleted: true},
		"/memfd: (deleted)":              {Kind: FDMemfd, Deleted: true},
		"/memfd:a (deleted)\n (deleted)": {Kind: FDMemfd, Name: "a (deleted)\n", Deleted: true},
		"/memfd:x":                       {Kind: FDPath, Name: "/memfd:x"},
		"/tmp/pipe:[7]":                  {Kind: FDPath, Name: "/tmp/pipe:[7]"},
		"/pipe:[7]":                      {Kind: FDPath, Name: "/pipe:[7]"},
		"pipe:[]":                        {Kind: FDUnknown, Name: "pipe:[]"},
		"pipe:[7":                        {Kind: FDUnknown, Name: "pipe:[7"},
		"pipe:[-7]":                      {Kind: FDUnknown, Name: "pipe:[-7]"},
		"pipe:[18446744073709551616]":    {Kind: FDUnknown, Name: "pipe:[18446744073709551616]"},
		":[7]":                           {Kind: FDUnknown, Name: ":[7]"},
		"(unreachable)/x":                {Kind: FDUnknown, Name: "(unreachable)/x"},
		"":                               {},
	} {
		assert.Equal(t, want, ParseFDTarget(link), "%q", link)
		inode, ok := PipeInode([]byte(link))
		assert.Equal(t, want.Kind == FDPipe, ok, "%q", link)
		if ok {
			assert.Equal(t, want.Inode, inode)
		}
	}
	assert.Equal(t, "memfd", FDMemfd.String())
	assert.Equal(t, "other", FDOther.String())
	assert.Equal(t, "unknown", FDKind(200).String())
}

func FuzzParseFDTarget(f *testing.F) {
	for _, s := range []string{"pipe:[1]", "/memfd:x (deleted)", "anon_inode:[x]", "mnt:[2]", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, link string) {
		got := ParseFDTarget(link)
		if strings.HasPrefix(link, "/") {
			assert.Contains(t, []FDKind{FDPath, FDMemfd}, got.Kind, "a file passed for something else")
		}
		var back string
		switch got.Kind {
		case FDPath, FDUnknown:
			back = got.Name
		case FDMemfd:
			back = "/memfd:" + got.Name
		default:
			return
		}
		if got.Deleted {
			back += " (deleted)"
		}
		assert.Equal(t, link, back)
		path := ParseFDTarget("/" + link + " (deleted)")
		assert.True(t, path.Deleted)
		_, ok := PipeInode(fmt.Appendf(nil, "/%s", link))
		assert.False(t, ok)
	})
}
