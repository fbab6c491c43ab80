package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/pgagroal-go/pgagroal/internal/config"
	"github.com/pgagroal-go/pgagroal/ipc"
)

const (
	connectTimeout = 5 * time.Second
	// answerTimeout is above what pgagroal itself allows any command, so that
	// only a stopped process makes us wait for it.
	answerTimeout = time.Minute
	// switchTimeout is that of switch-to, which waits for a script, on top of
	// --timeout.
	switchTimeout = 16 * time.Minute
	// maxAnswer bounds the memory for the answer, in bytes.
	maxAnswer = 256 << 20
)

// object is a JSON object.
type object = map[string]any

// do sends a command, prints the answer and returns it. A failure is already
// printed as a document; its error is what goes to standard error.
func (p *program) do(c *cli.Context, command string, args map[string]string) (object, error) {
	doc, err := p.request(c, command, args)
	if err != nil {
		return nil, err
	}
	if err := p.print(c, doc); err != nil {
		return nil, err
	}
	return doc, failure(command, doc)
}

// request sends a command and returns the document.
func (p *program) request(c *cli.Context, command string, args map[string]string) (object, error) {
	if c.IsSet("timeout") && command != "shutdown-gracefully" && command != "switch-to" {
		return nil, usagef("--timeout is for shutdown gracefully and switch-to")
	}
	if c.Bool("force") && !slices.Contains([]string{"switch-to", "clear-server", "failover-trigger"}, command) {
		return nil, usagef("--force is for switch-to, clear server and failover trigger")
	}
	if c.IsSet("to") && (command != "failover-trigger" || c.String("to") == "") {
		return nil, usagef("--to is for failover trigger, and takes the name of a server")
	}
	path, err := socketPath(c)
	if err != nil {
		return nil, err
	}
	if args == nil {
		args = map[string]string{}
	}
	args["client_version"], args["output"] = version, c.String("format")
	limit := answerTimeout
	if command == "switch-to" {
		seconds, err := strconv.ParseInt(cmp.Or(args["timeout"], "0"), 10, 64)
		if err != nil {
			return nil, usagef("--timeout: %v", err)
		}
		limit = switchTimeout + time.Duration(seconds)*time.Second
	}
	data, err := ask(path, &ipc.ControlRequest{Version: ipc.Version, Command: command, Args: args}, limit)
	if err != nil {
		return nil, err
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber() // a system identifier has more digits than a float64
	var doc object
	if err := dec.Decode(&doc); err != nil {
		return nil, unreachablef("the answer can't be read: %v", err)
	}
	return doc, nil
}

// failure returns nil for a document with Outcome.Status true.
func failure(command string, doc object) error {
	outcome, _ := doc["Outcome"].(object)
	if ok, _ := outcome["Status"].(bool); ok {
		return nil
	}
	message, _ := outcome["Message"].(string)
	if message == "" {
		message = fmt.Sprintf("failed, error %v", outcome["Error"])
	}
	return failedf("%s: %s", command, clean(message))
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
	return filepath.Join(cfg.UnixSocketDir, fmt.Sprintf(".s.pgagroal.%d", cfg.Port)), nil
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

// cause drops the words of the net package around a system error.
func cause(err error) error {
	var sys *os.SyscallError
	if errors.As(err, &sys) {
		return sys.Err
	}
	return err
}
