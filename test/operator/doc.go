// Package operator tests the commands of pgagroal-cli: shutdown, planned switches, orders about
// failover, rehearsals, and their answers in text and JSON.
package operator
