package relay

import (
	"slices"
	"strings"

	"github.com/pgagroal-go/pgagroal/internal/pgwire"
)

// A kept session (Kept) has the engine of the transaction pipeline, but keeps its backend
// until the client leaves. If it loses the backend, it gets another one, like a client of the
// transaction pipeline, provided that everything is known that it has left in its session:
//
//  1. A Reader says of each text what it leaves behind (Effect): assignments of parameters, or
//     something that can't be made again (a mark). The effect of a text counts once the server
//     has answered it.
//  2. Assignments are pending until the end of their transaction, which keeps or undoes them. If
//     that can't be told, the session is marked.
//  3. Adapt makes the assignments again on another backend, in their order.
//  4. stuck says why a session can't move, which its client is told at the end.
//
// DISCARD ALL makes a session like new.

// Effect is what a text leaves in the session of its client. A nil Effect leaves nothing. An
// Effect without Sets and Mark belongs to a text that sets parameters for its transaction only, and
// no custom ones (exists).
type Effect struct {
	Sets []Assignment
	// Mark says what the text leaves behind that can't be made again, as the client is told:
	// "a temporary table". Empty for nothing.
	Mark string
	// Lasts: DISCARD ALL doesn't remove what the mark is for.
	Lasts bool
}

// Assignment is a SET or RESET of a parameter for the rest of the session.
type Assignment struct {
	// Name is the parameter, in lower case: also "role" and "session_authorization". Empty with
	// Reset means all parameters (RESET ALL).
	Name string
	// SQL is a statement that makes the assignment on any backend, whatever its settings: it is
	// ASCII and has no backslash. Empty: it ends with its transaction, like SET LOCAL.
	SQL string
	// Reset says that the parameter gets the value back that the session began with.
	Reset bool
}

// assigns reports whether a text assigns parameters for longer than its transaction.
func (e *Effect) assigns() bool {
	return e != nil && slices.ContainsFunc(e.Sets, func(a Assignment) bool { return a.SQL != "" })
}

// Reader says what texts leave in a session. Its methods keep no part of their argument.
type Reader interface {
	// Read returns the effect of a text of one or more statements.
	Read(text []byte) *Effect
	// Unread returns the effect of something whose text isn't known. what names it for the
	// client.
	Unread(what string) *Effect
	// Blind returns why no text of a session can be read that begins with these parameters, ""
	// if texts can be read.
	Blind(p *Params) string
	// Doubts reports whether a session may have left more than its texts show, so that the server
	// is asked (Witness).
	Doubts() bool
}

// Why sessions can't move that a text alone doesn't show.
const (
	markOutcome  = "a setting whose transaction has an unknown outcome"
	markUndone   = "a setting of a transaction that was rolled back to a savepoint or ended by several statements in one message"
	markPortal   = "a setting by a statement in a named portal"
	markUnseen   = "a setting by a statement that was not understood"
	markInFlight = "a statement that was not answered"
	markTooMany  = "more settings than pgagroal remembers"
)

// maxSets is how many assignments are remembered of a session, maxSetsText the length of their SQL.
const (
	maxSets     = 256
	maxSetsText = 64 << 10
)

// keeping is what is known of a kept session. All fields but reader belong to the session, and go
// with it to another backend.
type keeping struct {
	reader Reader
	// sets are the assignments in effect, in order; pending are those of the transaction that is
	// open.
	sets, pending []Assignment
	// mark is why the session can't move, empty if it can.
	mark string
	// blind is the mark that DISCARD ALL doesn't remove, empty for none.
	blind string
	// chained: a COMMIT was answered whose ReadyForQuery is still to come.
	chained bool
	// touched: the client has used this backend, or assignments were made on it.
	touched bool
	// unseen: something was answered since the last look of the witness.
	unseen bool
	// portal is the effect of the statement of the unnamed portal, portals that of all named
	// portals together.
	portal, portals *Effect
	// unnamed is the effect of the unnamed statement.
	unnamed *Effect
}

// Kept is the conversation of a client whose session is kept: that of Pooled, with what is known of
// the session.
type Kept struct {
	Pooled
	keep keeping
}

// Adapt implements Conversation. After the parameters that follow each client, it makes the
// assignments again.
func (k *Kept) Adapt(b *Backend, follow *Params) string {
	return k.Pooled.Adapt(b, follow) + k.keep.readapt()
}

// Start implements Conversation.
func (k *Kept) Start(b *Backend, status byte) (told []byte) {
	begins := !k.ready()
	told = k.Pooled.Start(b, status)
	if k.line.keep = &k.keep; begins {
		k.tracked, k.untracked = b.Params.settings(), b.Params.untracked()
		k.keep.begin(&b.Params)
	}
	return told
}

// Asked takes the parameters that the client has given at its login.
func (k *Kept) Asked(params []pgwire.Param) {
	p := ParamsOf(params)
	k.keep.begin(&p)
}

// Keeps implements Conversation.
func (k *Kept) Keeps() bool { return true }

// begin looks at parameters that the session begins with.
func (k *keeping) begin(p *Params) {
	if k.blind == "" {
		k.blind = k.reader.Blind(p)
		k.mark = k.blind
	}
}

// effectOf returns the effect of a text, nil unless the session is kept.
func (p *Pooled) effectOf(text []byte) *Effect {
	if p.line.keep == nil {
		return nil
	}
	return p.line.keep.reader.Read(text)
}

// unread returns the effect of something without a known text.
func (p *Pooled) unread(what string) *Effect {
	if p.line.keep == nil {
		return nil
	}
	return p.line.keep.reader.Unread(what)
}

// effectOfUnnamed notes the effect of the unnamed statement.
func (p *Pooled) effectOfUnnamed(e *Effect) {
	if p.line.keep != nil {
		p.line.keep.unnamed = e
	}
}

// queries notes the effect of a Query.
func (k *keeping) queries(e *owed, text []byte) {
	e.effect = k.reader.Read(text)
	e.several = e.traits&traitControl != 0 && several(text)
}

// several reports whether a text may have more than one statement.
func several(text []byte) bool {
	end, ok := statementEnd(text)
	return !ok || end < len(text) && len(skipBlank(text[end+1:])) > 0
}

// effectOn returns the effect of a prepared statement, by the client's name. Sessions that began
// before a reload may share it, and have another reader.
func (p *Pooled) effectOn(name []byte) *Effect {
	if st := p.names[string(name)]; st != nil {
		if st.reader == p.line.keep.reader {
			return st.effect
		}
		return p.effectOf(queryText([]byte(st.tail)))
	}
	if len(name) == 0 {
		return p.line.keep.unnamed
	}
	return p.unread("a statement that PREPARE has made")
}

// bound notes the effect of the statement that a portal runs.
func (k *keeping) bound(named bool, e *Effect) {
	switch {
	case !named:
		k.portal = e
	case e != nil && e.Mark != "":
		k.portals = e
	case e != nil:
		k.portals = &Effect{Mark: markPortal}
	}
}

// executes returns the effect of an Execute. It doesn't tell which portal it is of.
func (k *keeping) executes() *Effect {
	if k.portals != nil {
		return k.portals
	}
	return k.portal
}

// answered takes the effect of a statement that the server has answered, with an error or not: an
// error doesn't take everything back.
func (k *keeping) answered(e *Effect) {
	switch {
	case e == nil || e.Mark == "":
		return
	case k.mark == "":
		k.mark = e.Mark
	}
	if e.Lasts && k.blind == "" {
		k.blind = e.Mark
	}
}

// assigned takes the assignments of a statement that has succeeded.
func (k *keeping) assigned(e *Effect) {
	switch {
	case e == nil:
	case len(k.sets)+len(k.pending)+len(e.Sets) > maxSets, lengthOf(k.sets, k.pending, e.Sets) > maxSetsText:
		k.answered(&Effect{Mark: markTooMany})
	default:
		for _, a := range e.Sets {
			if a.SQL != "" {
				k.pending = append(a.without(k.pending), a)
			}
		}
	}
}

// exists notes the custom parameters of a statement that has succeeded. Whatever becomes of its transaction,
// the server knows them from then on, and current_setting returns an empty text where it returned NULL: a
// policy may tell these apart. So they are reset on another backend, which makes them known there.
func (k *keeping) exists(e *Effect) {
	for i := range e.Sets {
		a := &e.Sets[i]
		switch {
		case !a.isCustom() || slices.ContainsFunc(k.sets, func(old Assignment) bool { return old.Name == a.Name }):
		case strings.Contains(a.Name, `\`):
			k.answered(&Effect{Mark: markUnseen})
		case len(k.sets)+len(k.pending) >= maxSets:
			k.answered(&Effect{Mark: markTooMany})
		default:
			k.sets = append(k.sets, emptied(a.Name))
		}
	}
}

// emptied returns the assignment that makes a custom parameter known and gives it no value.
func emptied(name string) Assignment {
	quoted := strings.ReplaceAll(strings.ReplaceAll(name, `"`, `""`), ".", `"."`)
	return Assignment{Name: name, SQL: `RESET "` + quoted + `"`, Reset: true}
}

// customs returns what RESET ALL or DISCARD ALL leaves of custom parameters.
func (k *keeping) customs() (list []Assignment) {
	for i := range k.sets {
		if a := &k.sets[i]; a.isCustom() {
			list = append(list, emptied(a.Name))
		}
	}
	return list
}

// lengthOf returns the length of the SQL of assignments.
func lengthOf(lists ...[]Assignment) (n int) {
	for _, list := range lists {
		for i := range list {
			n += len(list[i].SQL)
		}
	}
	return n
}

// tag takes a command tag, which is of a statement of e.
func (k *keeping) tag(tag string, e *owed) {
	switch tag {
	case "SET", "RESET":
		switch {
		case e.effect == nil:
			k.answered(&Effect{Mark: markUnseen})
		case e.kind == 'E':
			k.exists(e.effect)
			k.assigned(e.effect)
		default:
			k.exists(e.effect)
		}
	case "COMMIT", "PREPARE TRANSACTION":
		k.chained = true
		k.commit()
	case "ROLLBACK":
		k.rollback(e)
	case "DISCARD ALL":
		k.sets, k.pending, k.mark = k.customs(), nil, k.blind
	}
}

// rollback takes the tag ROLLBACK. ROLLBACK TO SAVEPOINT has the same. A COMMIT has it, too, if
// the block has failed. The assignments of a Query aren't pending yet.
func (k *keeping) rollback(e *owed) {
	sets := len(k.pending) > 0 || e.effect.assigns()
	if sets && (e.several || e.traits.unknown() || e.traits&(traitOpens|traitCloses) == 0) {
		k.answered(&Effect{Mark: markUndone})
	}
	k.pending = nil
}

// ready takes a ReadyForQuery that answers e. failed: something before it was an error.
func (k *keeping) ready(e *owed, failed bool, status byte) {
	k.unseen = true
	if e.kind == 'Q' && e.effect.assigns() {
		switch {
		case e.several && e.traits&traitControl != 0:
			k.answered(&Effect{Mark: markUndone})
		case !failed:
			k.assigned(e.effect)
		}
	}
	if e.kind == 'F' {
		k.answered(e.effect)
	}
	switch {
	case status != pgwire.TxIdle:
	case failed:
		k.pending = nil
	default:
		k.commit()
	}
}

// commit puts the pending assignments in effect.
func (k *keeping) commit() {
	for _, a := range k.pending {
		k.put(a)
	}
	k.pending = nil
}

// put adds an assignment to those in effect. Only the last of a name counts.
func (k *keeping) put(a Assignment) {
	if a.Reset && a.Name == "" {
		known := k.customs()
		k.sets = append(a.without(k.sets), known...)
		return
	}
	if k.sets = a.without(k.sets); isTracked(a.Name) || a.Reset && !a.stays() {
		return // the server reports it, or nothing is left of it
	}
	k.sets = append(k.sets, a)
}

// characteristicsName is the Name of SET SESSION CHARACTERISTICS AS TRANSACTION, which sets parameters
// whose names begin with default_transaction_. So a RESET of one of these is made again, too.
const characteristicsName = "session characteristics"

// stays reports whether a RESET leaves something: a custom parameter exists from then on, and is
// empty. characteristicsName explains the others.
func (a *Assignment) stays() bool {
	return strings.HasPrefix(a.Name, "default_transaction_") || a.isCustom()
}

// isCustom reports whether the parameter may be one that PostgreSQL doesn't define.
func (a *Assignment) isCustom() bool { return strings.Contains(a.Name, ".") }

// without removes from a list what the assignment replaces.
func (a *Assignment) without(list []Assignment) []Assignment {
	return slices.DeleteFunc(list, func(old Assignment) bool { return a.replaces(&old) })
}

// replaces reports whether nothing is left of an earlier assignment after this one. RESET ALL
// doesn't touch who the session acts as.
func (a *Assignment) replaces(old *Assignment) bool {
	switch {
	case a.Reset && a.Name == "":
		return old.Name != "role" && old.Name != "session_authorization"
	case a.Name == "session_authorization":
		return old.Name == a.Name || old.Name == "role"
	}
	return a.Name == old.Name && (a.Name != characteristicsName || a.SQL == old.SQL)
}

// stuck returns why a session that loses its backend can't go on with another one, empty if it
// can.
func (p *Pooled) stuck() string {
	k, x := p.line.keep, p.x
	switch {
	case k == nil:
		return ""
	case k.mark != "":
		return k.mark
	}
	idle := p.line.b.Status == pgwire.TxIdle
	for i := x.head; i < len(x.q); i++ {
		e := &x.q[i]
		switch {
		case e.effect.assigns():
			return markOutcome
		case e.effect != nil && e.effect.Mark != "":
			return markInFlight + ", and would have left " + e.effect.Mark
		case len(k.pending) == 0:
		case idle && (e.kind == 'S' || e.kind == 'Q' || e.kind == 'F'), e.traits&traitControl != 0:
			return markOutcome
		}
	}
	return ""
}

// lost begins anew without a backend. What was pending was rolled back.
func (k *keeping) lost() {
	k.pending, k.touched, k.chained = nil, false, false
	k.portal, k.portals = nil, nil
}

// readapt returns the SQL that makes the assignments on another backend.
func (k *keeping) readapt() string {
	var sql strings.Builder
	for _, a := range k.sets {
		sql.WriteString(a.SQL)
		if strings.Contains(a.SQL, "--") {
			sql.WriteByte('\n') // it may end with a comment
		}
		sql.WriteByte(';')
	}
	k.touched = sql.Len() > 0
	return sql.String()
}

// atRest notes what the client knows, for the case that it loses its backend.
func (p *Pooled) atRest() {
	b := p.line.b
	p.tracked, p.untracked = b.Params.settings(), b.Params.untracked()
	p.portal, p.portals = 0, 0
	p.line.keep.portal, p.line.keep.portals = nil, nil
	if u := &p.unnamed; u.used && len(u.tail) > maxUnnamed {
		u.kept, u.tail = false, nil
	}
	p.x.rest()
	p.line.trim()
}
