// Package leftovers tells from SQL what a session keeps after its statements have run, so
// that a session that keeps nothing unknown can go on with another backend. It is pure:
// text in, findings out.
//
// Reader.Read takes the text of a Query or Parse. The rule is a list of what is allowed: a
// statement is understood if it is of a known kind and calls only built-in functions that
// leave nothing (builtin.txt), or functions that the operator has named. What it changes
// comes out as a list of Changes; anything else marks the session, with the reason.
// Settings applies the Changes of statements that have succeeded, follows transactions,
// and has the statements that give a new backend the same settings.
//
// Statements, functions and parameters are read like this:
//
//   - nextval and setval are allowed, although currval and lastval remember them: on another
//     backend these two fail, they don't return wrong values. A session that calls currval
//     or lastval relies on that memory, so they mark it.
//   - Functions qualified with a schema other than pg_catalog mark. So do a search_path that
//     names pg_catalog behind another schema, because functions there would go before the
//     built-in ones, and pg_temp anywhere, because what is made there is temporary.
//   - DDL leaves nothing in the session. Kinds of it that run text of their own, such as
//     CREATE EXTENSION and CREATE FUNCTION, mark.
//   - A text is only readable where quotes and backslashes are what they seem: with
//     standard_conforming_strings, and a client_encoding whose characters hold no ASCII
//     bytes. Unreadable says so of parameters that are set outside of SQL.
//   - A text over Limit marks.
//
// What no text shows: the functions of operators, casts, domains, triggers, views, rules,
// policies, column defaults and indexes; functions of users that have the name of a built-in
// one and other argument types; functions of a row that are called like a column (t.f); the
// state that extensions keep; and the process id that an application remembers.
package leftovers
