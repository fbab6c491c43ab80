package supervisor

import (
	"errors"
	"maps"
	"slices"

	"github.com/pgagroal-go/pgagroal/internal/config"
	"github.com/pgagroal-go/pgagroal/internal/control"
)

// everyDatabase stands for all databases in commands and answers.
const (
	everyDatabase = "all"
	starDatabase  = "*"
)

// maxDisabled bounds the databases that are named one by one.
const maxDisabled = 1000

// disabled are the databases that let no new client in: those in except, or, with all, all
// but those in except. It lasts until pgagroal ends.
type disabled struct {
	all    bool
	except map[string]bool
}

func (d *disabled) any() bool { return d.all || len(d.except) > 0 }

func (d *disabled) is(database string) bool { return d.all != d.except[database] }

var errManyDisabled = errors.New("too many databases are named one by one; name all")

// set disables or enables one database, or all of them.
func (d *disabled) set(database string, disable bool) error {
	switch {
	case database == everyDatabase || database == starDatabase:
		*d = disabled{all: disable}
	case d.all == disable:
		delete(d.except, database)
	case len(d.except) >= maxDisabled:
		return errManyDisabled
	default:
		if d.except == nil {
			d.except = map[string]bool{}
		}
		d.except[database] = true
	}
	return nil
}

// list returns what status details shows: the disabled databases, or * and the databases
// that are enabled nevertheless.
func (d *disabled) list() []control.Database {
	list := []control.Database{}
	if d.all {
		list = append(list, control.Database{Database: starDatabase})
	}
	for _, name := range slices.Sorted(maps.Keys(d.except)) {
		list = append(list, control.Database{Database: name, Enabled: d.all})
	}
	return list
}

// switchDatabase disables or enables a database, which may be named by an alias. The answer
// to enabling one that is not disabled is empty.
func (s *supervisor) switchDatabase(name string, disable bool) (control.DatabasesResponse, error) {
	if name == everyDatabase {
		name = starDatabase
	}
	name = config.RealDatabase(s.cfg.Limits, name)
	if !disable && name != starDatabase && !s.clients.disabled.is(name) {
		return control.DatabasesResponse{}, nil
	}
	if err := s.clients.disabled.set(name, disable); err != nil {
		return control.DatabasesResponse{}, err
	}
	s.log.Warn("database is "+map[bool]string{true: "disabled: it lets no new client in", false: "enabled"}[disable], "database", name)
	return control.DatabasesResponse{Databases: []control.Database{{Database: name, Enabled: !disable}}}, nil
}
