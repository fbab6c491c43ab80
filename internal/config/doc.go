// Package config reads, checks and prints everything that pgagroal is configured with.
//
// One table, Keys, has a row for each key of pgagroal.conf: its type, default, accepted values and
// whether a change needs a restart. Parsing, checking, printing, comparing two configurations, the
// sample file and the manual pages all follow that table. The secondary files (host based
// authentication, limits and aliases, credentials) have one source file each.
//
// Nothing here logs, and nothing here keeps state: callers get values, warnings and errors, and
// passwords are held in a type that does not print itself.
package config
