package diagnose

import (
	"net/netip"
	"time"

	"github.com/seed841d8200/safeexec/internal/procfs"
	"github.com/seed841d8200/safeexec/internal/sys"
)

// socket fills in what a socket is, its two ends, and how full its queues are.
func (d *decoder) socket(r *Descriptor) {
	if info, err := sys.FindUnixSocket(r.Inode); err == nil {
		d.unix(r, info)
		return
	}
	wanted := func(inode uint64) bool { return inode == r.Inode }
	for _, table := range []procfs.SocketTable{
		procfs.TableTCP, procfs.TableTCP6, procfs.TableUDP, procfs.TableUDP6,
	} {
		if rows, _ := procfs.ReadSockets(d.p.PID, table, wanted); len(rows) > 0 {
			d.inet(r, string(table[:3]), rows[0])
			return
		}
	}
	rows, _ := procfs.ReadUnixSockets(d.p.PID, wanted) // of another namespace, or there is no sock_diag
	if len(rows) == 1 {                                // two would be a forgery
		r.Kind, r.Path, r.State = "unix", rows[0].Path, rows[0].State.String()
		r.Listening = rows[0].Listening
	}
}

func (d *decoder) unix(r *Descriptor, info sys.UnixSocket) {
	r.Kind, r.Path, r.Local, r.Listening = "unix", info.Path, info.Path, info.Listening
	switch {
	case info.Listening:
		r.State = "LISTEN"
		return
	case info.Peer == 0:
		r.State = "UNCONNECTED"
	default:
		r.State = "CONNECTED"
		if peer, err := sys.FindUnixSocket(info.Peer); err == nil {
			r.Remote = peer.Path
		}
		r.Ends = d.c.ends.any(socketLink(info.Peer), d.p.PID)
		d.wantEnds(r.Ends)
	}
	r.Unread = info.Unread
}

// inet fills in what a row of a table says. Of UDP the queues are the memory that they take.
func (d *decoder) inet(r *Descriptor, kind string, row procfs.Socket) {
	r.Kind, r.State = kind, row.State.String()
	r.Local, r.Remote = text(row.Local), text(row.Remote)
	r.Listening = r.State == "LISTEN"
	if !r.Listening {
		r.Unread, r.Unsent = int(row.RxQueue), int(row.TxQueue)
	}
	if kind == "udp" {
		connected := r.State == "ESTABLISHED"
		if r.State = "CONNECTED"; !connected {
			r.State, r.Remote = "UNCONNECTED", ""
		}
		return
	}
	if r.Listening {
		r.Remote = ""
		return
	}
	silence, ok := ask(d.c, d.p.PID, func() (time.Duration, error) {
		return sys.TCPSilence(row.Inode, row.Local, row.Remote)
	})
	if ok {
		r.Silent = silence
	}
	d.localPeer(r, row.Local, row.Remote)
}

func text(a netip.AddrPort) string {
	if !a.IsValid() {
		return ""
	}
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()).String()
}

// localPeer finds the process at the other end of a connection within this machine, by the row of the
// table that has the same addresses the other way round.
func (d *decoder) localPeer(r *Descriptor, local, remote netip.AddrPort) {
	if !remote.IsValid() || !remote.Addr().Unmap().IsLoopback() || d.c.late() {
		return
	}
	table := procfs.TableTCP
	if remote.Addr().Is6() {
		table = procfs.TableTCP6
	}
	rows, _ := procfs.ReadSockets(d.p.PID, table, nil)
	for _, row := range rows {
		if row.Local != remote || row.Remote != local || row.Inode == 0 {
			continue
		}
		r.Ends = d.c.ends.any(socketLink(row.Inode), d.p.PID)
		d.wantEnds(r.Ends)
		return
	}
}
