package main

import (
	"crypto/hmac"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"github.com/pgagroal-go/pgagroal/internal/auth"
	"github.com/pgagroal-go/pgagroal/internal/config"
	"github.com/pgagroal-go/pgagroal/internal/control"
	"github.com/pgagroal-go/pgagroal/internal/pgwire"
	"github.com/pgagroal-go/pgagroal/internal/screen"
	"github.com/pgagroal-go/pgagroal/internal/tlsdial"
	"github.com/pgagroal-go/pgagroal/internal/tlspolicy"
	"github.com/pgagroal-go/pgagroal/ipc"
)

const (
	// loginTimeout is how long TLS and login may take. The answer to a wrong password comes late.
	loginTimeout = 30 * time.Second
	// passwordVariable has the password of an admin; pgagroal-admin reads it, too.
	passwordVariable = "PGAGROAL_PASSWORD"
)

// The words of --tls.
var tlsModes = []string{"off", "prefer", "require", "verify-ca", "verify-full"}

func remoteFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "host", Aliases: []string{"h"}, Usage: "`HOST` of a pgagroal with a management port, instead of the control socket"},
		&cli.StringFlag{Name: "port", Aliases: []string{"p"}, Usage: "management `PORT` of that host"},
		&cli.StringFlag{Name: "user", Aliases: []string{"U"}, Usage: "`ADMIN` of pgagroal_admins.conf there (default: asked for)"},
		&cli.StringFlag{Name: "password", Aliases: []string{"P"}, Usage: "`PASSWORD` of the admin (default: " + passwordVariable + ", or asked for)"},
		&cli.StringFlag{Name: "tls", Usage: "`MODE` of TLS with that host: off, prefer, require, verify-ca or verify-full (default: verify-full with authorities, or else prefer)"},
		&cli.StringFlag{Name: "tls-ca", Usage: "`FILE` of authorities for that host's certificate, or system (default: ~/.pgagroal/root.crt if it exists)"},
		&cli.StringFlag{Name: "compress", Aliases: []string{"C"}, Usage: "none; other values of C pgagroal are refused"},
		&cli.StringFlag{Name: "encrypt", Aliases: []string{"E"}, Usage: "none; other values of C pgagroal are refused: use --tls"},
	}
}

// far is a pgagroal that is reached by its management port.
type far struct {
	address        string
	user, password string
	tls            *tlsdial.Server // nil for clear text
	keys           *auth.ClientKeys
}

// remote reads the options of remote management.
func (p *program) remote(c *cli.Context) error {
	for _, name := range []string{"compress", "encrypt"} {
		if v := c.String(name); v != "" && v != "none" {
			return usagef("--%s: %q of C pgagroal isn't available here: --tls encrypts, and answers need no compression", name, v)
		}
	}
	if !c.IsSet("host") && !c.IsSet("port") {
		for _, name := range []string{"user", "password", "tls", "tls-ca"} {
			if c.IsSet(name) {
				return usagef("--%s is for --host and --port", name)
			}
		}
		return nil
	}
	port, err := strconv.ParseUint(c.String("port"), 10, 16)
	switch {
	case c.String("host") == "" || c.String("port") == "":
		return usagef("--host and --port belong together")
	case err != nil || port == 0:
		return usagef("--port: %q is no port", c.String("port"))
	case c.IsSet("config") || c.IsSet("socket"):
		return usagef("--host excludes --config and --socket")
	}
	f := &far{address: net.JoinHostPort(c.String("host"), c.String("port")), keys: auth.NewClientKeys(1)}
	if f.tls, err = farTLS(c); err != nil {
		return err
	}
	if f.user, f.password, err = p.who(c); err != nil {
		return err
	}
	p.far = f
	return nil
}

// farTLS returns the TLS settings, nil for clear text. Certificate and key of C pgagroal's ~/.pgagroal are shown if they
// exist.
func farTLS(c *cli.Context) (*tlsdial.Server, error) {
	files, mode := homeFiles(), c.String("tls")
	if c.IsSet("tls-ca") {
		files.CA = c.String("tls-ca")
	}
	if mode == "" {
		if mode = "prefer"; files.CA != "" {
			mode = "verify-full"
		}
	}
	switch {
	case !slices.Contains(tlsModes, mode):
		return nil, usagef("--tls: %q is not one of %s", mode, strings.Join(tlsModes, ", "))
	case mode == "off":
		return nil, nil
	case mode == "prefer" && c.IsSet("tls-ca"):
		return nil, usagef("--tls prefer checks nothing, so --tls-ca is of no use")
	case mode == "prefer":
		files.CA = ""
	}
	m, err := tlspolicy.Load(files)
	if err != nil {
		return nil, failedf("TLS: %v", err)
	}
	t := &ipc.ServerTLS{Mode: mode, Host: c.String("host"), CA: string(m.CA)}
	if len(m.Pairs) > 0 {
		t.Certificate, t.Key = string(m.Pairs[0].Chain), ipc.Secret(m.Pairs[0].Key)
	}
	s, err := tlsdial.New(t)
	if err != nil {
		return nil, failedf("TLS: %v", err)
	}
	return s, nil
}

// homeFiles returns those files of ~/.pgagroal that exist.
func homeFiles() (f tlspolicy.Files) {
	home, err := os.UserHomeDir()
	if err != nil {
		return f
	}
	path := func(name string) string {
		p := filepath.Join(home, ".pgagroal", name)
		if _, err := os.Stat(p); err != nil {
			return ""
		}
		return p
	}
	f.CA = path("root.crt")
	if cert, key := path("pgagroal.crt"), path("pgagroal.key"); cert != "" && key != "" {
		f.Pairs = []tlspolicy.PairFiles{{Cert: cert, Key: key}}
	}
	return f
}

// who returns the admin and the password. What isn't given is asked for on the terminal.
func (p *program) who(c *cli.Context) (user, password string, err error) {
	user, password = c.String("user"), c.String("password")
	if !c.IsSet("password") {
		password = os.Getenv(passwordVariable)
	}
	in := int(os.Stdin.Fd())
	asks := term.IsTerminal(in)
	switch {
	case user == "" && !asks:
		return "", "", usagef("--user is missing")
	case user == "":
		fmt.Fprint(p.stderr, "User: ")
		if _, err := fmt.Fscanln(os.Stdin, &user); err != nil {
			return "", "", failedf("read the name of the admin: %v", err)
		}
	}
	switch {
	case password != "":
	case !asks:
		return "", "", usagef("--password is missing, and %s isn't set", passwordVariable)
	default:
		fmt.Fprint(p.stderr, "Password: ")
		typed, err := term.ReadPassword(in)
		fmt.Fprintln(p.stderr)
		if err != nil {
			return "", "", failedf("read the password: %v", err)
		}
		password = string(typed)
	}
	if msg := config.CheckCredential(user, config.Secret(password)); msg != "" {
		return "", "", usagef("%s", msg)
	}
	return user, password, nil
}

// ask logs in, sends one request and returns the JSON document that answers it.
func (f *far) ask(req *ipc.ControlRequest, limit time.Duration) ([]byte, error) {
	d := net.Dialer{Timeout: connectTimeout}
	conn, err := d.Dial("tcp", f.address)
	if err != nil {
		return nil, unreachablef("pgagroal can't be reached at %s: %v", f.address, cause(err))
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(loginTimeout)); err != nil {
		return nil, unreachablef("%v", err)
	}
	rw, seal, err := f.login(conn)
	if err != nil {
		return nil, f.loginFailed(err)
	}
	if err := conn.SetDeadline(time.Now().Add(limit)); err != nil {
		return nil, unreachablef("%v", err)
	}
	cmd := control.RemoteCommand{Version: req.Version, Command: req.Command, Args: req.Args}
	body, err := cmd.Encode(seal.Request(cmd.Sealed()))
	if err != nil {
		return nil, failedf("%v", err)
	}
	if _, err := rw.Write(pgwire.AppendMessage(nil, control.RemoteMessage, body)); err != nil {
		return nil, unreachablef("pgagroal takes no request: %v", cause(err))
	}
	return answerOf(rw, seal, limit)
}

// login logs in, and returns what the request is sent over and sealed with.
func (f *far) login(conn net.Conn) (io.ReadWriter, auth.Seal, error) {
	rw, options := io.ReadWriter(conn), auth.LoginOptions{}
	if f.tls != nil {
		w, err := f.tls.Start(conn)
		if err != nil {
			return nil, auth.Seal{}, err
		}
		if w != nil {
			rw, options = w, f.tls.Login(w)
			options.RequireBinding = options.ChannelBinding != nil
		}
	}
	var seal auth.Seal
	options.Seal, options.Allowed = &seal, auth.Methods{auth.SCRAM}
	first, err := pgwire.AppendStartup(nil, []pgwire.Param{
		{Name: "user", Value: f.user}, {Name: "database", Value: control.RemoteDatabase}, {Name: "application_name", Value: "pgagroal-cli"},
	})
	if err != nil {
		return nil, seal, err
	}
	if _, err := rw.Write(first); err != nil {
		return nil, seal, err
	}
	_, err = auth.Login(rw, auth.Plain{User: f.user, Secret: f.password, Cache: f.keys}, options)
	return rw, seal, err
}

// loginFailed says why a login has failed. Only if nothing answers that could be a management port, it can't be reached.
func (f *far) loginFailed(err error) error {
	var refused *auth.ServerError
	var handshake *tlsdial.RefusedError
	switch {
	case errors.As(err, &refused):
		return failedf("%s: %s", f.address, withHint(refused.Fields))
	case errors.As(err, &handshake), errors.Is(err, tlsdial.ErrNoTLS), errors.Is(err, auth.ErrNotBound),
		errors.Is(err, auth.ErrServerNotProven), errors.As(err, new(*auth.MethodError)):
		return failedf("%s: %v", f.address, err)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return unreachablef("%s closed the connection before the login: it is no management port, or has too many connections of this address", f.address)
	}
	return unreachablef("%s: the login failed: %v", f.address, cause(err))
}

func withHint(e pgwire.ErrorFields) string {
	text := screen.Clean(e.Message)
	if e.Hint != "" {
		text += " (" + screen.Clean(e.Hint) + ")"
	}
	return text
}

// answerOf receives the pieces of the answer.
func answerOf(r io.Reader, seal auth.Seal, limit time.Duration) ([]byte, error) {
	var data []byte
	for number := 0; ; number++ {
		typ, body, err := pgwire.ReadMessage(r, control.MaxRemoteReply)
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return nil, unreachablef("pgagroal closed the connection before it had answered: it is stopping, or has another console now")
		case errors.Is(err, os.ErrDeadlineExceeded):
			return nil, unreachablef("no answer from pgagroal within %s", limit)
		case err != nil:
			return nil, unreachablef("%v", cause(err))
		case typ == 'E': // without a seal: the command may have been carried out all the same
			return nil, unreachablef("no answer, but a refusal, and nothing proves that it is pgagroal's: %s", withHint(pgwire.ParseError(body)))
		case typ != control.RemoteMessage || len(data) > maxAnswer:
			return nil, unreachablef("the answer can't be read")
		}
		mac, last, piece, err := control.ParseRemoteReply(body)
		if err != nil {
			return nil, unreachablef("%v", err)
		}
		if !hmac.Equal(mac, seal.Reply(number, last, piece)) {
			return nil, unreachablef("the answer was changed on its way")
		}
		if data = append(data, piece...); last {
			return data, nil
		}
	}
}
