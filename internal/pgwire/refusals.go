package pgwire

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgproto3"
)

// Refusal is an error that pgagroal itself sends to a client: a row of the table below, which has all of them.
// pgagroal.8 documents the table, and a test in man/ compares the two. Zero is none.
type Refusal uint8

// The refusals, in the order in which a client may meet them.
const (
	RefusalTooManyWaiting Refusal = iota + 1
	RefusalTooManyClients
	RefusalTooManyLogins
	RefusalUnterminated
	RefusalNoValue
	RefusalTwice
	RefusalNoUser
	RefusalVersion
	RefusalNotEncrypted
	RefusalReplicationValue
	RefusalReplication
	RefusalLongStartup
	RefusalManagementDatabase
	RefusalManyAdmins
	RefusalNoEntry
	RefusalRejected
	RefusalNoCertificate
	RefusalCertificate
	RefusalUnknownUser
	RefusalDisabled
	RefusalReserved
	RefusalManyFailures
	RefusalBadPassword
	RefusalStale
	RefusalNoLookUp
	RefusalNotPassword
	RefusalAnswerLength
	RefusalPasswordSize
	RefusalMalformedInitial
	RefusalMechanism
	RefusalBindingMix
	RefusalBindingDowngrade
	RefusalBindingPassed
	RefusalIdentity
	RefusalMalformedSCRAM
	RefusalManagementCommand
	RefusalUserClients
	RefusalDatabaseClients
	RefusalNoPassword
	RefusalMethod
	RefusalUnproven
	RefusalUnbound
	RefusalServerLogin
	RefusalNoConnection
	RefusalPoolFull
	RefusalManyPools
	RefusalNotAvailable
	RefusalPrimaryLost
	RefusalShutdown
	RefusalInternal
	RefusalTerminated
	RefusalFlushed
	RefusalSwitchover
	RefusalIdleTransaction
	RefusalIdleSession
	RefusalForced
	RefusalOvertime
	RefusalOverran
	RefusalClientBroke
	RefusalServerBroke
	RefusalServerLost
	RefusalOutcomeUnknown
	RefusalTransactionLost
	RefusalCanceled
	RefusalListen
	RefusalManyStatements
	RefusalOutdated
	refusals // one more than there are
)

// Row says what a client gets of a Refusal.
type Row struct {
	// Severity is that of a login or an idle client. With FATAL the connection is closed.
	Severity string
	Code     string // SQLSTATE
	// Text is the message, with verbs of fmt for what With is given.
	Text    string
	Detail  string
	Hint    string
	Routine string
	// When says in the manual when a client gets this refusal, and Shown how the manual shows the
	// verbs of Text.
	When  string
	Shown []string
}

const (
	hintLog  = "The log of pgagroal has the reason."
	unsecure = "unsupported security model for user \"%s\": "
)

// table has every refusal. Texts that C pgagroal or PostgreSQL has for the same case are kept, at least as the
// beginning of the text, because scripts and drivers look for them.
var table = [refusals]Row{
	RefusalTooManyWaiting: {
		Severity: SeverityFatal, Code: CodeTooManyConnections, Text: "too many clients are waiting for a worker",
		When: "Clients connect faster than the workers take them over, or pgagroal is short of descriptors.",
	},
	RefusalTooManyClients: {
		Severity: SeverityFatal, Code: CodeTooManyConnections, Text: "too many clients, the limit is max_clients",
		When: "max_clients is reached. The log says how many were refused.",
	},
	RefusalTooManyLogins: {
		Severity: SeverityFatal, Code: CodeTooManyConnections, Text: "too many clients are logging in",
		When: "More than 8192 logins are under way in a worker.",
	},
	RefusalUnterminated: {
		Severity: SeverityFatal, Code: CodeProtocolViolation, Text: "invalid startup packet layout: expected terminator as last byte",
		When: "The client's first packet is damaged.",
	},
	RefusalNoValue: {
		Severity: SeverityFatal, Code: CodeProtocolViolation, Text: "invalid startup packet layout: parameter without a value",
		When: "The client's first packet is damaged.",
	},
	RefusalTwice: {
		Severity: SeverityFatal, Code: CodeProtocolViolation, Text: "invalid startup packet: a parameter is given twice",
		When: "PostgreSQL and pgagroal could take different ones for the user.",
	},
	RefusalNoUser: {
		Severity: SeverityFatal, Code: CodeInvalidAuthorization, Text: "no PostgreSQL user name specified in startup packet",
		When: "The client names no user.",
	},
	RefusalVersion: {
		Severity: SeverityFatal, Code: CodeFeatureNotSupported, Text: "unsupported frontend protocol %d.%d: server supports 3.0 to 3.%d",
		When: "The client speaks another version of the protocol.", Shown: []string{"N", "N", "2"},
	},
	RefusalNotEncrypted: {
		Severity: SeverityFatal, Code: CodeInvalidAuthorization, Text: "the connection must be encrypted",
		Hint: "Connect with sslmode=require or better.", When: "tls is require, and the client does not use TLS.",
	},
	RefusalReplicationValue: {
		Severity: SeverityFatal, Code: CodeInvalidParameterValue, Text: "invalid value for parameter \"replication\": \"%s\"",
		Hint: "Valid values are: \"false\", 0, \"true\", 1, \"database\".", When: "The value is no boolean.", Shown: []string{"V"},
	},
	RefusalReplication: {
		Severity: SeverityFatal, Code: CodeFeatureNotSupported, Text: "replication connections are not supported by the connection pool",
		Hint: "Connect to the server itself.", When: "A replication connection can't be shared and can't move to another server.",
	},
	RefusalLongStartup: {
		Severity: SeverityFatal, Code: CodeProgramLimitExceeded, Text: "startup parameters are too long",
		When: "Database, user and parameters have more than 10 KiB.",
	},
	RefusalManagementDatabase: {
		Severity: SeverityFatal, Code: CodeUndefinedDatabase, Text: "connection refused: the management port has no database but \"admin\"",
		Hint: "Connect with pgagroal-cli, or to the port for clients.", When: "On the management port.",
	},
	RefusalManyAdmins: {
		Severity: SeverityFatal, Code: CodeTooManyConnections, Text: "too many admins are logging in or wait for an answer",
		When: "On the management port: all places are taken, or those for one address. A login that has failed keeps its place for a while.",
	},
	RefusalNoEntry: {
		Severity: SeverityFatal, Code: CodeInvalidAuthorization, Text: "no pgagroal_hba.conf entry for host \"%s\", user \"%s\", database \"%s\"",
		When: "No rule of pgagroal_hba.conf matches.", Shown: []string{"A", "U", "D"},
	},
	RefusalRejected: {
		Severity: SeverityFatal, Code: CodeInvalidAuthorization, Text: "connection refused: pgagroal_hba.conf rejects host \"%s\", user \"%s\", database \"%s\"",
		When: "The first rule that matches has the method reject. The log names the rule.", Shown: []string{"A", "U", "D"},
	},
	RefusalNoCertificate: {
		Severity: SeverityFatal, Code: CodeInvalidAuthorization, Text: "connection requires a valid client certificate",
		When: "The rule asks for a certificate (cert or clientcert), and the client sent none.",
	},
	RefusalCertificate: {
		Severity: SeverityFatal, Code: CodeInvalidAuthorization, Text: "certificate authentication failed for user \"%s\"",
		When: "The certificate is valid, but for another user. The log has its names.", Shown: []string{"U"},
	},
	RefusalUnknownUser: {
		Severity: SeverityFatal, Code: CodeInvalidAuthorization, Text: "connection refused: user \"%s\" is not known to the connection pool",
		When: "The rule lets in without a password, but no users file has the user, and allow_unknown_users is off.", Shown: []string{"U"},
	},
	RefusalDisabled: {
		Severity: SeverityFatal, Code: CodeNotInState, Text: "database \"%s\" is disabled",
		Hint: "An operator has disabled it with pgagroal-cli disable.",
		When: "Until pgagroal-cli enable.", Shown: []string{"D"},
	},
	RefusalReserved: {
		Severity: SeverityFatal, Code: CodeTooManyConnections, Text: "the last places of max_clients are reserved for admins",
		Hint: "reserved_connections says how many.", When: "The user is not in the admins file.",
	},
	RefusalManyFailures: {
		Severity: SeverityFatal, Code: CodeTooManyConnections, Text: "too many logins from this address have failed",
		When: "With auth_failure_delay: the address has failed within the last minute, and 16 of its clients are logging in or wait for the answer to a wrong password; or 1024 clients of all addresses wait.",
	},
	RefusalBadPassword: {
		Severity: SeverityFatal, Code: CodeInvalidPassword, Text: "password authentication failed for user \"%s\"", Routine: "auth_failed",
		When: "The password is wrong, or the user unknown: a client can't tell which.", Shown: []string{"U"},
	},
	RefusalStale: {
		Severity: SeverityFatal, Code: CodeInvalidPassword, Text: "password authentication failed for user \"%s\": it has changed at the server", Routine: "auth_failed",
		When: "With auth_query: the server asks for another password than the one that the client has proven. It may connect again.", Shown: []string{"U"},
	},
	RefusalNoLookUp: {
		Severity: SeverityFatal, Code: CodeCannotConnectNow, Text: "could not look up the password of user \"%s\"", Hint: hintLog,
		When: "With auth_query: no server answers, or the statement fails.", Shown: []string{"U"},
	},
	RefusalNotPassword: {
		Severity: SeverityFatal, Code: CodeProtocolViolation, Text: "expected password response, got message type %d",
		When: "The client's driver is broken.", Shown: []string{"N"},
	},
	RefusalAnswerLength: {
		Severity: SeverityFatal, Code: CodeProtocolViolation, Text: "invalid password packet length",
		When: "The client answered with a password of more than 65530 bytes, or otherwise with more than 16 KiB.",
	},
	RefusalPasswordSize: {
		Severity: SeverityFatal, Code: CodeProtocolViolation, Text: "invalid password packet size",
		When: "The client's password has a zero byte inside, or none at its end.",
	},
	RefusalMalformedInitial: {
		Severity: SeverityFatal, Code: CodeProtocolViolation, Text: "malformed SASLInitialResponse",
		When: "The client's driver is broken.",
	},
	RefusalMechanism: {
		Severity: SeverityFatal, Code: CodeProtocolViolation, Text: "client selected an invalid SASL authentication mechanism",
		When: "The client uses another mechanism than pgagroal offered.",
	},
	RefusalBindingMix: {
		Severity: SeverityFatal, Code: CodeProtocolViolation, Text: "SASL mechanism and SCRAM message disagree about channel binding",
		When: "The client's driver is broken.",
	},
	RefusalBindingDowngrade: {
		Severity: SeverityFatal, Code: CodeInvalidAuthorization, Text: "client supports SCRAM channel binding but thinks the server does not",
		When: "Somebody between client and pgagroal removed the offer of channel binding.",
	},
	RefusalBindingPassed: {
		Severity: SeverityFatal, Code: CodeInvalidAuthorization, Text: "channel binding is not possible for a user whom only the server can authenticate",
		Hint: "Connect with channel_binding=disable, or have the user added to the users file of the connection pool.",
		When: "Client and server both use TLS, with pgagroal in between: neither can see the certificate of the other, and the server takes that for an attack.",
	},
	RefusalIdentity: {
		Severity: SeverityFatal, Code: CodeFeatureNotSupported, Text: "client uses authorization identity, but it is not supported",
		When: "The client wants to be another user than it proves to be.",
	},
	RefusalMalformedSCRAM: {
		Severity: SeverityFatal, Code: CodeProtocolViolation, Text: "malformed SCRAM message",
		When: "The client's driver is broken.",
	},
	RefusalManagementCommand: {
		Severity: SeverityFatal, Code: CodeProtocolViolation, Text: "the command is not one of pgagroal-cli: %s",
		Hint: "Use pgagroal-cli of the same release; pgagroal-cli of C pgagroal can't be used.",
		When: "On the management port, after the login.", Shown: []string{"reason"},
	},
	RefusalUserClients: {
		Severity: SeverityFatal, Code: CodeTooManyConnections, Text: "too many clients of user \"%s\", the limit is max_clients_per_user",
		When: "The user has proven who it is, unless only the server can authenticate it.", Shown: []string{"U"},
	},
	RefusalDatabaseClients: {
		Severity: SeverityFatal, Code: CodeTooManyConnections, Text: "too many clients of database \"%s\", the limit is max_clients_per_database",
		When: "The user has proven who it is, unless only the server can authenticate it.", Shown: []string{"D"},
	},
	RefusalNoPassword: {
		Severity: SeverityFatal, Code: CodeInvalidAuthorization, Text: unsecure + "the server asks for a password, and the connection pool has none",
		When: "pgagroal let the user in itself, by trust for example, but pgagroal_users.conf has no password for the server.", Shown: []string{"U"},
	},
	RefusalMethod: {
		Severity: SeverityFatal, Code: CodeInvalidAuthorization, Text: unsecure + "the server asks for %s",
		When: "pgagroal can't log in by the method that the server's pg_hba.conf has for the user, or require_auth doesn't allow it.", Shown: []string{"U", "M"},
	},
	RefusalUnproven: {
		Severity: SeverityFatal, Code: CodeInvalidAuthorization, Text: unsecure + "the server did not prove that it knows the password",
		When: "It may not be the server that it says it is.", Shown: []string{"U"},
	},
	RefusalUnbound: {
		Severity: SeverityFatal, Code: CodeInvalidAuthorization, Text: unsecure + "channel binding is required, and this login can't be bound",
		When: "channel_binding is require, and the server offers no SCRAM-SHA-256-PLUS, or it must authenticate the client itself.", Shown: []string{"U"},
	},
	RefusalServerLogin: {
		Severity: SeverityFatal, Code: CodeProtocolViolation, Text: "the server broke the protocol during the login: %s",
		When: "What answers at the server's address isn't a PostgreSQL server.", Shown: []string{"reason"},
	},
	RefusalNoConnection: {
		Severity: SeverityFatal, Code: CodeNoConnection, Text: "connection refused: no connection to the server", Hint: hintLog,
		When: "The server can't be reached, its TLS fails, or the login takes too long.",
	},
	RefusalPoolFull: {
		Severity: SeverityFatal, Code: CodeTooManyConnections, Text: "connection pool is full",
		When: "blocking_timeout has passed. Every few seconds the log says what is full, a line of pgagroal_databases.conf or max_connections, " +
			"with its place and limit, and which workers and pools hold the connections: pool is full ... full= workers= holders=.",
	},
	RefusalManyPools: {
		Severity: SeverityFatal, Code: CodeTooManyConnections, Text: "too many pools, the limit is max_pools",
		When: "Clients ask for too many combinations of database, user and parameters.",
	},
	RefusalNotAvailable: {
		Severity: SeverityFatal, Code: CodeCannotConnectNow, Text: "the database is not available: %s",
		When: "There is no primary and the wait is over. A few words about the state follow; only pgagroal-cli failover status and the log " +
			"show the reason with names and paths.", Shown: []string{"state"},
	},
	RefusalPrimaryLost: {
		Severity: SeverityFatal, Code: CodeCannotConnectNow, Text: "the primary was lost during the login",
		When: "A failover began while the server authenticated the client.",
	},
	RefusalShutdown: {
		Severity: SeverityFatal, Code: CodeCannotConnectNow, Text: "connection refused: the connection pool is shutting down",
		When: "After pgagroal-cli shutdown gracefully.",
	},
	RefusalInternal: {
		Severity: SeverityFatal, Code: CodeInternalError, Text: "connection refused: internal error", Hint: hintLog,
		When: "A fault of pgagroal. Please report the lines of the log.",
	},
	RefusalTerminated: {
		Severity: SeverityFatal, Code: CodeAdminShutdown, Text: "terminating connection due to administrator command",
		When: "pgagroal ends, or the worker of the client does; or pgagroal-cli kick.",
	},
	RefusalFlushed: {
		Severity: SeverityFatal, Code: CodeAdminShutdown, Text: "terminating connection due to a flush",
		When: "pgagroal-cli flush all, or the time limit of flush gracefully.",
	},
	RefusalSwitchover: {
		Severity: SeverityFatal, Code: CodeAdminShutdown, Text: "terminating connection due to a planned switchover",
		When: "The client was idle and can't move to another server, because its session would be lost.",
	},
	RefusalIdleTransaction: {
		Severity: SeverityFatal, Code: CodeIdleInTransaction, Text: "terminating connection due to idle-in-transaction timeout",
		When: "The client left its transaction open for longer than idle_in_transaction_timeout.",
	},
	RefusalIdleSession: {
		Severity: SeverityFatal, Code: CodeIdleSession, Text: "terminating connection due to idle-session timeout",
		When: "The client was idle for longer than disconnect_client.",
	},
	RefusalForced: {
		Severity: SeverityFatal, Code: CodeAdminShutdown, Text: "terminating connection due to disconnect_client_force",
		When: "Nothing came from the client for longer than disconnect_client, although it was not idle.",
	},
	RefusalOvertime: {
		Severity: SeverityWarning, Code: CodeQueryCanceled, Text: "the statement is cancelled because it has run longer than query_timeout, %s",
		When: "The error of the server follows, as after a cancel request.", Shown: []string{"T"},
	},
	RefusalOverran: {
		Severity: SeverityFatal, Code: CodeQueryCanceled,
		Text: "terminating connection because a statement has run longer than query_timeout and could not be cancelled",
		When: "The server did not react to the cancel request.",
	},
	RefusalClientBroke: {
		Severity: SeverityFatal, Code: CodeProtocolViolation, Text: "the client broke the protocol: %s",
		When: "After the login. The client's driver is broken.", Shown: []string{"reason"},
	},
	RefusalServerBroke: {
		Severity: SeverityFatal, Code: CodeConnectionFailure, Text: "the server broke the protocol", Hint: hintLog,
		When: "After the login.",
	},
	RefusalServerLost: {
		Severity: SeverityFatal, Code: CodeAdminShutdown, Text: "terminating connection because the connection to the server was lost",
		When: "Nothing was under way that could have taken effect.",
	},
	RefusalOutcomeUnknown: {
		Severity: SeverityFatal, Code: CodeOutcomeUnknown, Text: "the connection to the server was lost; whether the last statement took effect is unknown",
		When: "The server may have committed. Look before you repeat it.",
	},
	RefusalTransactionLost: {
		Severity: SeverityError, Code: CodeConnectionFailure, Text: "the connection to the server was lost, and the transaction with it",
		When: "In the transaction pipeline. The client stays, and may repeat the transaction.",
	},
	RefusalCanceled: {
		Severity: SeverityError, Code: CodeQueryCanceled, Text: "canceling statement due to user request",
		When: "The statement still waited for a connection to the server, and was never sent.",
	},
	RefusalListen: {
		Severity: SeverityError, Code: CodeFeatureNotSupported, Text: "LISTEN is not supported in the transaction pipeline",
		Detail: "A connection belongs to a client for one transaction only, so no notification would come.",
		Hint:   "Use the session pipeline, or a connection of its own to the server.",
		When:   "In the transaction pipeline.",
	},
	RefusalManyStatements: {
		Severity: SeverityError, Code: CodeProgramLimitExceeded,
		Text: "prepared statements of a client are limited to %d, to %d MiB each and %d MiB together",
		Hint: "Close or deallocate statements that are not used any more.",
		When: "In the transaction pipeline.", Shown: []string{"N", "N", "N"},
	},
	RefusalOutdated: {
		Severity: SeverityError, Code: CodeFeatureNotSupported, Text: "cached plan must not change result type", Routine: "RevalidateCachedQuery",
		When: "In the transaction pipeline: a prepared statement returns other columns than when the client prepared it. Drivers prepare it again.",
	},
}

// Refusals returns all refusals.
func Refusals() []Refusal {
	all := make([]Refusal, refusals-1)
	for i := range all {
		all[i] = Refusal(i + 1)
	}
	return all
}

// Row returns the row of a refusal.
func (r Refusal) Row() Row { return table[r] }

// Refused is a refusal for one client. It is an error, so that code can return it to the place that answers the client.
type Refused struct {
	Refusal Refusal
	args    []any
	detail  string
}

// With fills in the verbs of the refusal's text.
func (r Refusal) With(args ...any) *Refused { return &Refused{Refusal: r, args: args} }

// WithWords is With for words that have come through a link.
func (r Refusal) WithWords(words []string) *Refused {
	args := make([]any, len(words))
	for i, w := range words {
		args[i] = w
	}
	return r.With(args...)
}

// Words returns what the verbs of the text are, for WithWords.
func (r *Refused) Words() []string {
	words := make([]string, len(r.args))
	for i, a := range r.args {
		words[i] = fmt.Sprint(a)
	}
	return words
}

// Detail gives the refusal a detail, unless the table has one.
func (r *Refused) Detail(text string) *Refused {
	return &Refused{r.Refusal, r.args, text}
}

// Code returns the SQLSTATE.
func (r *Refused) Code() string { return r.Refusal.Row().Code }

// Error returns the message, which is for the client.
func (r *Refused) Error() string { return fmt.Sprintf(r.Refusal.Row().Text, r.args...) }

// Append appends the ErrorResponse, or with severity WARNING the NoticeResponse.
func (r *Refused) Append(dst []byte) []byte { return r.append(dst, r.Refusal.Row().Severity) }

// AppendError appends the ErrorResponse for a client that stays: its severity is ERROR.
func (r *Refused) AppendError(dst []byte) []byte { return r.append(dst, SeverityError) }

func (r *Refused) append(dst []byte, severity string) []byte {
	row := r.Refusal.Row()
	e := pgproto3.ErrorResponse{
		Severity: severity, SeverityUnlocalized: severity, Code: row.Code, Message: noZero(r.Error()),
		Detail: noZero(cmp.Or(row.Detail, r.detail)), Hint: row.Hint, Routine: row.Routine,
	}
	if severity == SeverityWarning {
		return must((*pgproto3.NoticeResponse)(&e).Encode(dst))
	}
	return must(e.Encode(dst))
}

// noZero drops zero bytes, which would end a field early.
func noZero(s string) string { return strings.ReplaceAll(s, "\x00", "") }
