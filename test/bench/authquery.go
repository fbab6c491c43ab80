package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/auth"
	"github.com/pgagroal-go/pgagroal/internal/pgtest"
)

// manyFirst is how many users log in for the first time at once.
const manyFirst = 50

// firstRole is the role of the nth such user.
func firstRole(n int) string { return fmt.Sprintf("first%d", n) }

// firstLogins returns the case of users that pgagroal has to look up. Their verifiers have one iteration: what a client
// computes is no part of the pooler's time.
func firstLogins() workload {
	return workload{
		name: "first-logins", title: fmt.Sprintf("%d users that auth_query looks up log in for the first time at once, and one alone", manyFirst),
		clients: manyFirst, login: loginScram, targets: lookedUp(), measure: measureFirstLogins,
		goals: []goal{{metric: firsts, most: 5, absolute: true, looksUp: true}},
	}
}

// measureFirstLogins returns how much longer many first logins take than one.
func measureFirstLogins(ctx context.Context, r *rig, _ workload, p *pooler) (map[string]float64, error) {
	v, err := auth.NewVerifier(password, []byte("0123456789abcdef"), 1)
	if err != nil {
		return nil, err
	}
	for n := range manyFirst + 2 {
		role := firstRole(n)
		if _, err := r.node().Query(ctx, "DROP ROLE IF EXISTS "+role+"; CREATE ROLE "+role+" LOGIN PASSWORD '"+v.Encode()+"'"); err != nil {
			return nil, err
		}
	}
	if _, err := logInFirst(ctx, p, 0, 1); err != nil { // of this process
		return nil, err
	}
	one, err := logInFirst(ctx, p, 1, 2)
	if err != nil {
		return nil, err
	}
	many, err := logInFirst(ctx, p, 2, manyFirst+2)
	if err != nil {
		return nil, err
	}
	return map[string]float64{firstOne: one.Seconds() * 1e3, firstMany: many.Seconds() * 1e3, firsts: many.Seconds() / one.Seconds()}, nil
}

// logInFirst logs a range of users in at once and returns how long that takes.
func logInFirst(ctx context.Context, p *pooler, from, to int) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, clientLimit)
	defer cancel()
	var all sync.WaitGroup
	errs := make([]error, to-from)
	clients := make([]*pgtest.Client, to-from)
	start := time.Now()
	for i := range errs {
		all.Go(func() {
			clients[i], errs[i] = pgtest.Connect(ctx, pgtest.ClientConfig{Addr: p.addr(), User: firstRole(from + i), Password: password, Database: database})
		})
	}
	all.Wait()
	took := time.Since(start)
	for _, c := range clients {
		if c != nil {
			errs = append(errs, c.Close())
		}
	}
	return took, errors.Join(errs...)
}

// writeAsker makes the superuser file, with the user that may ask for what is stored of others.
func (r *rig) writeAsker(ctx context.Context, p *pooler) error {
	return r.writeCredential(ctx, p, filepath.Join(p.dir, "pgagroal_superuser.conf"), "postgres")
}
