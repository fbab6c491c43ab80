package worker

import "github.com/pgagroal-go/pgagroal/internal/logline"

// elsewhere runs work in a goroutine, and then calls done with its result on the loop. If
// work panics, the panic becomes its error, so that only one client or backend fails and the
// worker continues.
func elsewhere[T any](w *worker, work func() (T, error), done func(T, error)) {
	go func() {
		var v T
		err := logline.Guarded(w.log, func() (err error) { v, err = work(); return err })
		w.loop.Post(func() { done(v, err) })
	}()
}
