package worker

import (
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgagroal-go/pgagroal/worker/reactor"
)

// converseBoth runs f as a coroutine of a loop of each kind, with peer at the other end of
// its connection, and waits until both have ended.
func converseBoth(t *testing.T, f func(*dialogue) error, peer func(t *testing.T, d *dialogue, conn *net.UnixConn)) {
	t.Helper()
	for _, kind := range []string{"epoll", "io_uring"} {
		t.Run(kind, func(t *testing.T) {
			loop, err := reactor.New(kind)
			if err != nil {
				t.Fatal(err)
			}
			stopped := make(chan struct{})
			go func() {
				defer close(stopped)
				loop.Run()
			}()
			defer func() {
				loop.Stop()
				wait(t, stopped, "the loop to stop")
			}()
			fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				t.Fatal(err)
			}
			file := os.NewFile(uintptr(fds[1]), "peer")
			conn, err := net.FileConn(file)
			file.Close()
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			_ = conn.SetDeadline(time.Now().Add(generous))
			begun, ended := make(chan *dialogue, 1), make(chan error, 1)
			loop.Post(func() {
				d, err := converse(loop, fds[0], func(d *dialogue) { ended <- f(d) })
				if err != nil {
					ended <- err
					return
				}
				begun <- d
				d.wake()
			})
			peer(t, wait(t, begun, "the dialogue to begin"), conn.(*net.UnixConn))
			if err := wait(t, ended, "the dialogue to end"); err != nil {
				t.Error(err)
			}
		})
	}
}

func say(t *testing.T, conn io.Writer, text string) {
	t.Helper()
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
}

func hear(t *testing.T, conn io.Reader, want string) {
	t.Helper()
	b := make([]byte, len(want))
	if _, err := io.ReadFull(conn, b); err != nil || string(b) != want {
		t.Fatalf("read %q and %v, want %q", b, err, want)
	}
}

// expects reads a text in a dialogue.
func expects(r io.Reader, want string) error {
	b := make([]byte, len(want))
	if _, err := io.ReadFull(r, b); err != nil {
		return err
	}
	if string(b) != want {
		return errors.New("read " + string(b) + " instead of " + want)
	}
	return nil
}

func writes(w io.Writer, text string) error {
	_, err := io.WriteString(w, text)
	return err
}

func TestDialogueWaitsForWhatComesInPieces(t *testing.T) {
	converseBoth(t, func(d *dialogue) error {
		defer d.Close()
		return errors.Join(expects(d, "question"), writes(d, "answer"), expects(d, "and"), expects(d, " more"), writes(d, "."))
	}, func(t *testing.T, _ *dialogue, conn *net.UnixConn) {
		say(t, conn, "ques")
		say(t, conn, "tion")
		hear(t, conn, "answer")
		say(t, conn, "and more")
		hear(t, conn, ".")
	})
}

func TestDialogueEndsWithItsPeerAndWithItsTime(t *testing.T) {
	converseBoth(t, func(d *dialogue) error {
		defer d.Close()
		if err := d.SetDeadline(time.Now().Add(time.Millisecond)); err != nil {
			return err
		}
		if err := expects(d, "x"); !errors.Is(err, os.ErrDeadlineExceeded) {
			return errors.Join(errors.New("it doesn't end with its time"), err)
		}
		// With more time it goes on.
		if err := errors.Join(d.SetDeadline(time.Now().Add(generous)), writes(d, "go on"), expects(d, "yes")); err != nil {
			return err
		}
		if err := expects(d, "x"); !errors.Is(err, io.EOF) {
			return errors.Join(errors.New("it doesn't end with its peer"), err)
		}
		return nil
	}, func(t *testing.T, _ *dialogue, conn *net.UnixConn) {
		hear(t, conn, "go on")
		say(t, conn, "yes")
		conn.Close()
	})
}

// As at a shutdown.
func TestDialogueEndsWhenOthersCloseIt(t *testing.T) {
	converseBoth(t, func(d *dialogue) error {
		if err := errors.Join(writes(d, "hello"), expects(d, "x")); !errors.Is(err, net.ErrClosed) {
			return errors.Join(errors.New("it doesn't end with its connection"), err)
		}
		if _, err := d.leave(); !errors.Is(err, net.ErrClosed) {
			return errors.New("a closed connection was given away")
		}
		return nil
	}, func(t *testing.T, d *dialogue, conn *net.UnixConn) {
		hear(t, conn, "hello")
		d.loop.Post(func() { d.Close() })
		if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("the peer sees %v, want the end", err)
		}
	})
}

// What was written comes before the end, however slowly it is read.
func TestDialogueSaysAllBeforeItsEnd(t *testing.T) {
	const size = 1 << 20
	converseBoth(t, func(d *dialogue) error {
		defer d.Close()
		if err := writes(d, string(make([]byte, size))); err != nil {
			return err
		}
		return errors.Join(d.CloseWrite(), expects(d, "got it"))
	}, func(t *testing.T, _ *dialogue, conn *net.UnixConn) {
		all, err := io.ReadAll(conn)
		if len(all) != size || err != nil {
			t.Errorf("read %d of %d bytes: %v", len(all), size, err)
		}
		say(t, conn, "got it")
	})
}

func TestDialogueGoesOnInAGoroutine(t *testing.T) {
	outside := make(chan error, 1)
	converseBoth(t, func(d *dialogue) error {
		if err := errors.Join(expects(d, "one"), writes(d, "two")); err != nil {
			return err
		}
		file, err := d.leave()
		if err != nil {
			return err
		}
		go func() {
			defer file.Close()
			err := errors.Join(file.SetDeadline(time.Now().Add(generous)), expects(file, "three"))
			if err == nil && !file.connected() {
				err = errors.New("the peer isn't connected")
			}
			outside <- errors.Join(err, writes(file, "four"), file.CloseWrite())
		}()
		return nil
	}, func(t *testing.T, _ *dialogue, conn *net.UnixConn) {
		say(t, conn, "one")
		hear(t, conn, "two")
		say(t, conn, "three")
		hear(t, conn, "four")
		if err := wait(t, outside, "the goroutine"); err != nil {
			t.Error(err)
		}
	})
}
