// Package health looks at one server, once: it connects, logs in, asks for role, position and replication state, and
// says what it saw in the words of the link to the supervisor. It neither schedules nor decides.
//
//   - target.go: what is probed, and as whom.
//   - probe.go: the order of connections and logins within one deadline.
//   - session.go: one connection, from dialling to the answers of queries.
//   - verdict.go: which outcome an error means. By SQLSTATE and errno alone, never by the text of a message.
//   - observe.go: the queries and the meaning of their answers.
//   - cancel.go: a CancelRequest, which asks the server nothing.
//   - look.go: one query with the first login that succeeds, for backends.go (which processes are left), settings.go
//     (parameters) and answers.go.
//   - answers.go: several queries over one connection, for a look at a whole set-up.
//   - lookup.go: the stored password of a user, by a statement of the operator, over sessions that are kept.
//   - question.go: what the server asks a user at a login.
//
// Each function here returns when it is done, and leaves neither connection nor goroutine behind; only LookUps keeps
// connections. What a server sends is
// bounded here: size and number of messages, and time. Sessions are read-only. The queries of a probe open no relation
// except the catalog of roles, which the server has read during the login anyway.
package health
