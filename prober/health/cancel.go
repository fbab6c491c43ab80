package health

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"

	"github.com/pgagroal-go/pgagroal/internal/pgwire"
)

// Cancel sends a CancelRequest for the process pid of a server and waits until the server has taken it. If ctx ends
// before that, the request is withdrawn as far as possible: what the kernel still has of it isn't delivered.
func Cancel(ctx context.Context, target Target, pid uint32, key []byte) error {
	var d net.Dialer
	nc, err := d.DialContext(ctx, target.Network, target.Address)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer nc.Close()
	if t, ok := nc.(*net.TCPConn); ok {
		_ = t.SetLinger(0) // fails on a closed connection only
	}
	raw := nc
	defer context.AfterFunc(ctx, func() { raw.Close() })()
	if target.TLS != nil && target.Network != "unix" {
		wired, err := target.TLS.Start(nc)
		if err != nil {
			return err
		}
		if wired != nil {
			nc = wired
		}
	}
	if _, err := nc.Write(pgwire.AppendCancelRequest(nil, pid, key)); err != nil {
		return fmt.Errorf("send: %w", err)
	}
	if _, err := nc.Read(make([]byte, 1)); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("wait for the server: %w", err)
	}
	return nil
}
