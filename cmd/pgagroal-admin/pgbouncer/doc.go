// Package pgbouncer makes a configuration of pgagroal from one of PgBouncer, and says of each setting what it became, or
// what to do instead. pgagroal-admin import is its only user.
//
//   - ini.go: reads PgBouncer's files, as PgBouncer does.
//   - settings.go: the table of settings of the section [pgbouncer].
//   - databases.go: databases, which become servers, aliases and limits.
//   - clients.go: auth_type, rules and the list of users.
//   - plan.go: the order of the steps, and the result.
//
// It writes nothing: the caller writes the files, and encrypts the passwords. Every key passes the parser of pgagroal.conf
// on its way, so that the result loads.
package pgbouncer
