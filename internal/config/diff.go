package config

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"reflect"
	"slices"
	"strconv"
)

// Change is one difference between two configurations.
type Change struct {
	Key    string // KEY, server.NAME.KEY, server.NAME, or the name of a secondary file
	Old    string // empty for secondary files, which may hold secrets
	New    string
	Reload Reload
}

// Diff returns the differences between the running configuration and a new one, in the table's
// order.
func Diff(running, fresh *Config) []Change {
	var changes []Change
	for _, r := range Keys() {
		if r.Section != MainSection {
			continue
		}
		was, is := running.comparable(r), fresh.comparable(r)
		if was != is {
			changes = append(changes, Change{r.Name, was, is, r.Reload})
		}
	}
	changes = append(changes, diffServers(running.Servers, fresh.Servers)...)
	for _, part := range []struct {
		name    string
		was, is any
	}{
		{"hba", running.HBA, fresh.HBA},
		{"ident", running.Ident, fresh.Ident},
		{"limits", running.Limits, fresh.Limits},
		{"users", running.Users, fresh.Users},
		{"frontend_users", running.FrontendUsers, fresh.FrontendUsers},
		{"admins", running.Admins, fresh.Admins},
		{"superuser", running.Superuser, fresh.Superuser},
	} {
		if !reflect.DeepEqual(part.was, part.is) {
			changes = append(changes, Change{Key: part.name})
		}
	}
	return changes
}

// comparable returns the value of a key in the form in which two configurations are
// compared.
func (c *Config) comparable(r Row) string {
	switch r.Name {
	case "pipeline":
		if c.ResolvedPipeline() == PipelinePerformance {
			return PipelineSession // which it is, under another name
		}
		return c.ResolvedPipeline()
	case "pidfile":
		return c.EffectivePIDFile()
	}
	return r.format(r.main(c))
}

func diffServer(running, fresh Server) []Change {
	var changes []Change
	for _, r := range Keys() {
		if r.Section != ServerSection {
			continue
		}
		was, is := r.format(r.server(&running)), r.format(r.server(&fresh))
		if was != is {
			changes = append(changes, Change{"server." + running.Name + "." + r.Name, was, is, r.Reload})
		}
	}
	return changes
}

// Reloaded returns the configuration that a reload puts in effect: fresh, but with the running
// value of everything that needs a restart, and with the slots of the servers that stay.
func Reloaded(running, fresh *Config) *Config {
	next := fresh.Clone()
	next.takeSlots(running)
	for _, r := range Keys() {
		if r.Reload == Restart && r.Section == MainSection && running.comparable(r) != fresh.comparable(r) {
			copyField(r.main(next), r.main(running))
			next.setOrigin(r.Name, running.origins[r.Name])
		}
	}
	if next.EffectivePIDFile() != running.EffectivePIDFile() { // its default follows port and unix_socket_dir
		next.PIDFile = running.EffectivePIDFile()
	}
	if next.MaxConnections != fresh.MaxConnections {
		next.Limits = refitted(fresh.Limits, next.MaxConnections)
	}
	return next
}

// copyField copies a value between the fields of a key in two configurations.
func copyField(to, from any) { reflect.ValueOf(to).Elem().Set(reflect.ValueOf(from).Elem()) }

// hookKeys are the keys that the supervisor and the runner must agree on.
var hookKeys = [...]string{
	"failover_script", "failover_notify_script", "failover_fence_script",
	"failover_script_timeout", "failover_notify_timeout", "failover_kill_delay",
}

// HooksDigest returns a SHA-256, in hex, of the values that the supervisor and the runner must agree
// on: the paths and time limits of the hooks, and the name, host and port of each server, in whatever order.
func (c *Config) HooksDigest() string {
	h := sha256.New()
	for _, key := range hookKeys {
		text, ok := c.Get(key)
		if !ok {
			panic("config: no key " + key)
		}
		fmt.Fprintf(h, "%s=%s\n", key, strconv.Quote(text))
	}
	for _, s := range slices.SortedFunc(slices.Values(c.Servers), func(a, b Server) int { return cmp.Compare(a.Name, b.Name) }) {
		fmt.Fprintf(h, "%s %s %d\n", strconv.Quote(s.Name), strconv.Quote(s.Host), s.Port)
	}
	return hex.EncodeToString(h.Sum(nil))
}
