package pgtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
)

// bounded runs f, whose reads and writes fail once ctx ends. After that the connection
// is useless, because it may have stopped in the middle of a message.
func (c *Client) bounded(ctx context.Context, f func() error) error {
	return boundConn(ctx, c.conn, f)
}

func boundConn(ctx context.Context, conn net.Conn, f func() error) error {
	expired := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		_ = conn.SetDeadline(time.Unix(1, 0))
		close(expired)
	})
	err := f()
	if !stop() {
		<-expired
	}
	if err != nil && ctx.Err() != nil {
		return errors.Join(context.Cause(ctx), err)
	}
	return err
}

// Close ends the session as a client does: Terminate, then close.
func (c *Client) Close() error {
	c.fe.Send(&pgproto3.Terminate{})
	return errors.Join(c.fe.Flush(), c.conn.Close())
}

// Cancel sends a request to cancel the running query, over a connection of its own, and
// returns when the server has closed that connection.
func (c *Client) Cancel(ctx context.Context) error {
	return SendCancel(ctx, c.cfg, c.PID, c.Secret)
}

// SendCancel sends a CancelRequest without TLS and waits for the server to close.
func SendCancel(ctx context.Context, cfg ClientConfig, pid uint32, secret []byte) error {
	conn, err := dial(ctx, cfg)
	if err != nil {
		return fmt.Errorf("cancel: %w", err)
	}
	defer func() { _ = conn.Close() }()
	request, err := (&pgproto3.CancelRequest{ProcessID: pid, SecretKey: secret}).Encode(nil)
	if err != nil {
		return fmt.Errorf("encode CancelRequest: %w", err)
	}
	err = boundConn(ctx, conn, func() error {
		if _, err := conn.Write(request); err != nil {
			return err
		}
		_, err := io.Copy(io.Discard, conn)
		return err
	})
	if err != nil {
		return fmt.Errorf("cancel: %w", err)
	}
	return nil
}
