package diagnose

import (
	"net/netip"

	"github.com/seed841d8200/safeexec/internal/procfs"
	"github.com/seed841d8200/safeexec/internal/sys"
)

// socket fills in what a socket is, between whom, and how full its queues are.
func (d *decoder) socket(r *Descriptor) {
	var info sys.SocketInfo
	err := sys.BorrowFD(d.p.PID, r.FD, func(fd int) {
		if got, err := sys.InspectSocket(fd); err == nil {
			info = got
		}
	})
	if err != nil || info.Family == 0 {
		d.socketFromTables(r)
		return
	}
	r.Listening = info.Listening
	r.Unread, r.Unsent, r.Silent = info.Unread, info.Unsent, info.SinceReceived
	switch info.Family {
	case sys.FamilyUnix:
		r.Kind = "unix"
		r.Path = info.LocalPath
		r.Local, r.Remote = info.LocalPath, info.RemotePath
		r.State = "UNCONNECTED"
		if info.Connected {
			r.State = "CONNECTED"
			d.unixPeer(r, info)
		}
	case sys.FamilyIPv4, sys.FamilyIPv6:
		r.Local = text(info.Local)
		if info.Connected {
			r.Remote = text(info.Remote)
		}
		switch info.Protocol {
		case sys.SocketTCP:
			r.Kind = "tcp"
			r.State = procfs.SocketState(info.State).String()
			d.localPeer(r, info.Local, info.Remote)
		case sys.SocketUDP:
			r.Kind = "udp"
			r.State = "UNCONNECTED"
			if info.Connected {
				r.State = "CONNECTED"
			}
		}
	}
	if info.Listening {
		r.State = "LISTEN"
	}
}

func text(a netip.AddrPort) string {
	if !a.IsValid() {
		return ""
	}
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()).String()
}

// unixPeer names the process that connected, listened or made the pair. It may have passed the
// socket on, so this is where to look and not who must be there.
func (d *decoder) unixPeer(r *Descriptor, info sys.SocketInfo) {
	if info.PeerPID <= 0 || info.PeerPID == d.p.PID {
		return
	}
	st, err := procfs.ReadStat(info.PeerPID)
	if err != nil {
		return
	}
	r.Peer = info.PeerPID
	r.Ends = []End{{PID: info.PeerPID, FD: -1, Name: st.Comm}}
	d.c.want(info.PeerPID)
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

// socketFromTables is for where the socket itself may not be asked.
func (d *decoder) socketFromTables(r *Descriptor) {
	wanted := func(inode uint64) bool { return inode == r.Inode }
	for _, table := range []procfs.SocketTable{
		procfs.TableTCP, procfs.TableTCP6, procfs.TableUDP, procfs.TableUDP6,
	} {
		rows, _ := procfs.ReadSockets(d.p.PID, table, wanted)
		if len(rows) == 0 {
			continue
		}
		row := rows[0]
		r.Kind = string(table[:3])
		r.State = row.State.String()
		r.Local, r.Remote = text(row.Local), text(row.Remote)
		r.Unread, r.Unsent = int(row.RxQueue), int(row.TxQueue)
		r.Listening = r.State == "LISTEN"
		if r.Kind == "tcp" {
			d.localPeer(r, row.Local, row.Remote)
		}
		return
	}
	rows, _ := procfs.ReadUnixSockets(d.p.PID, wanted)
	if len(rows) == 1 { // two would be a forgery
		r.Kind, r.Path, r.State = "unix", rows[0].Path, rows[0].State.String()
		r.Listening = rows[0].Listening
	}
}
