package ipc

// Role says which process holds an end of a link.
type Role uint8

// The roles. RoleControl is pgagroal-cli, or any other client of the control socket. RoleRemote is the
// console's end of a connection for one login of an admin.
const (
	RoleSupervisor Role = iota + 1
	RoleWorker
	RoleRunner
	RoleControl
	RoleProber
	RoleConsole
	RoleRemote
)

func (r Role) String() string {
	switch r {
	case RoleSupervisor:
		return "supervisor"
	case RoleWorker:
		return "worker"
	case RoleRunner:
		return "runner"
	case RoleControl:
		return "control"
	case RoleProber:
		return "prober"
	case RoleConsole:
		return "console"
	case RoleRemote:
		return "remote"
	}
	return "unknown role"
}

// Phase is how far a link has come.
//
//	setup ---(Hello received, configuration complete)---> running
//
// A message is refused outside the phases of its catalogue row.
type Phase uint8

// The phases, as bits so that a catalogue row can name both.
const (
	PhaseSetup Phase = 1 << iota
	PhaseRunning
	phaseAny = PhaseSetup | PhaseRunning
)

func (p Phase) String() string {
	switch p {
	case PhaseSetup:
		return "setup"
	case PhaseRunning:
		return "running"
	case phaseAny:
		return "any"
	}
	return "unknown phase"
}

// Version is the version of the messages. Both ends of a link must have the
// same one; it differs only between an installed scriptrunner service or
// pgagroal-cli and a supervisor of another release.
const Version = 1

// MaxPacket is the largest packet in bytes, header included. A password of 64 KiB fits in, with what
// surrounds it.
const MaxPacket = 65 << 10

// MaxFDs is the largest number of descriptors that one message carries.
const MaxFDs = 3
