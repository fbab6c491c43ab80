package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/pgagroal-go/pgagroal/internal/config"
	"github.com/pgagroal-go/pgagroal/internal/control"
	"github.com/pgagroal-go/pgagroal/internal/release"
	"github.com/pgagroal-go/pgagroal/internal/screen"
	"github.com/pgagroal-go/pgagroal/ipc"
)

const (
	connectTimeout = 5 * time.Second
	// maxAnswer limits the memory for the answer, in bytes.
	maxAnswer = 256 << 20
)

// answer is the document that answers a command, parsed and as bytes for printing.
type answer struct {
	control.Document
	data []byte
}

// response decodes the Response into a type of internal/control.
func (a *answer) response(v any) error {
	if err := json.Unmarshal(a.Response, v); err != nil {
		return unreachablef("the answer can't be read: %v", err)
	}
	return nil
}

// failure returns why a command failed, nil if it succeeded.
func (a *answer) failure(command string) error {
	if a.Outcome.Status {
		return nil
	}
	message := a.Outcome.Message
	if message == "" {
		message = fmt.Sprintf("failed, error %d", a.Outcome.Error)
	}
	return failedf("%s: %s", command, screen.Clean(message))
}

// do sends a command, prints the answer and returns it. A failure is printed as a
// document, too, unless it is for people; its error is for standard error.
func (p *program) do(c *cli.Context, command string, args map[string]string) (*answer, error) {
	a, err := p.request(c, command, args)
	if err != nil {
		return nil, err
	}
	if err := p.print(c, a); err != nil {
		return nil, err
	}
	return a, a.failure(command)
}

// request sends a command and returns the answer.
func (p *program) request(c *cli.Context, name string, args map[string]string) (*answer, error) {
	command := control.Find(name)
	if err := optionsOf(c, command); err != nil {
		return nil, err
	}
	if args == nil {
		args = map[string]string{}
	}
	args[control.ArgClientVersion], args[control.ArgOutput] = release.Version(), outputName(c.String("format"))
	wait, err := strconv.ParseInt(cmp.Or(args[control.ArgTimeout], "0"), 10, 64)
	if err != nil {
		return nil, usagef("--timeout: %v", err)
	}
	limit := command.Allows(time.Duration(wait)*time.Second) + control.AnswerGrace
	a := &answer{}
	if a.data, err = p.ask(c, &ipc.ControlRequest{Version: ipc.Version, Command: name, Args: args}, limit); err != nil {
		return nil, err
	}
	if err := json.Unmarshal(a.data, &a.Document); err != nil {
		return nil, unreachablef("the answer can't be read: %v", err)
	}
	return a, nil
}

// ask sends a request to the pgagroal of the command line, and returns the document.
func (p *program) ask(c *cli.Context, req *ipc.ControlRequest, limit time.Duration) ([]byte, error) {
	if p.far != nil {
		return p.far.ask(req, limit)
	}
	path, err := socketPath(c)
	if err != nil {
		return nil, err
	}
	return ask(path, req, limit)
}

// optionsOf refuses options that the command doesn't use.
func optionsOf(c *cli.Context, command *control.Command) error {
	switch ping := command.Name == control.Ping; {
	case c.IsSet("timeout") && !command.Takes(control.ArgTimeout):
		return usagef("--timeout is for shutdown gracefully, flush gracefully, pause and switch-to")
	case c.Bool("force") && !command.Takes(control.ArgForce):
		return usagef("--force is for switch-to, clear server and failover trigger")
	case c.IsSet("to") && (command.Name != control.FailoverTrigger || c.String("to") == ""):
		return usagef("--to is for failover trigger, and takes the name of a server")
	case c.Bool("persist") && !command.Takes(control.ArgPersist):
		return usagef("--persist is for conf set")
	case c.Bool("primary") && !ping, c.Bool("write") && !ping:
		return usagef("--primary and --write are for ping")
	}
	return nil
}

// socketPath finds the control socket.
func socketPath(c *cli.Context) (string, error) {
	if path := c.String("socket"); path != "" {
		return path, nil
	}
	paths, err := config.FindPaths(config.Flags{Config: c.String("config")})
	if err != nil {
		return "", failedf("%v", err)
	}
	cfg, err := config.LoadMain(paths.Config)
	if err != nil {
		return "", failedf("configuration: %v (--socket needs none)", err)
	}
	return control.SocketPath(cfg.UnixSocketDir, cfg.Port), nil
}

// ask sends one request and returns the JSON document that answers it.
func ask(path string, req *ipc.ControlRequest, limit time.Duration) ([]byte, error) {
	d := net.Dialer{Timeout: connectTimeout}
	sock, err := d.Dial("unixpacket", path)
	if err != nil {
		return nil, unreachablef("pgagroal can't be reached at %s: %v", path, cause(err))
	}
	conn := ipc.NewConn(sock.(*net.UnixConn), ipc.RoleControl, ipc.RoleSupervisor, nil)
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(limit)); err != nil {
		return nil, unreachablef("%v", err)
	}
	if err := conn.Send(req); err != nil {
		return nil, unreachablef("pgagroal takes no request: %v", cause(err))
	}
	return receive(conn, limit)
}

func receive(conn *ipc.Conn, limit time.Duration) ([]byte, error) {
	var data []byte
	for {
		env, err := conn.Receive()
		switch {
		case errors.Is(err, io.EOF):
			return nil, unreachablef("pgagroal closed the connection before it had answered: it is stopping, or has too many requests at once")
		case errors.Is(err, os.ErrDeadlineExceeded):
			return nil, unreachablef("no answer from pgagroal within %s", limit)
		case err != nil:
			return nil, unreachablef("%v", err)
		}
		reply, ok := env.Message.(*ipc.ControlReply)
		if !ok || len(data)+len(reply.Data) > maxAnswer {
			env.CloseFDs()
			return nil, unreachablef("the answer can't be read")
		}
		data = append(data, reply.Data...)
		if !reply.More {
			return data, nil
		}
	}
}

// cause removes the text that the net package puts around a system error.
func cause(err error) error {
	var sys *os.SyscallError
	if errors.As(err, &sys) {
		return sys.Err
	}
	return err
}
