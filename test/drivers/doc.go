// Package drivers has drivers of several languages do the same over TLS: log in, be refused, prepare, cancel, copy, and
// live through a failover.
//
// A program is one file of the directory programs, or for Go a directory with one file; a further driver is a further
// program. It connects to localhost with what the environment says: PGPORT, PGUSER, PGPASSWORD, PGDATABASE, the authority
// CA, and another one, WRONG_CA. Programs with libpq find PGSSLMODE=verify-full and PGSSLROOTCERT; the others must check
// authority and name on their own. Each prints these lines:
//
//	login USER              session_user of a first connection, which it keeps
//	wrong-password TEXT     the error of a connection with a wrong password
//	wrong-ca TEXT           the error of a connection that trusts the other authority
//	prepared 110            the sum of ten runs of a prepared statement with 1 to 10: SELECT $1::int * 2
//	sleeping                it runs SELECT pg_sleep(600) /* $NAME */, and reads one line of its input
//	cancel TEXT             it has cancelled that after the line; TEXT is the statement's error
//	copy 100                rows that COPY has put into a temporary table, in a transaction
//	ready                   it reads a line, and ends here unless that is "failover"
//	lost TEXT               the error of a statement on the first connection, or -
//	after PORT              inet_server_port(), over a new connection if the first one was lost
//
// A driver that has no such thing prints - instead of the value; drivers_test.go lists these.
package drivers
