package leftovers

import "strings"

// call looks at a name that stands before a parenthesis: k is what its word means, parts
// how many names the dots in it divide.
func (x *reading) call(b *body, k keyword, first, last token, parts int) {
	bare := parts == 1 && first.kind == word
	switch {
	case b.before == operand, bare && !k.functional(), x.isObject(b), bare && x.isKeyword(b, k, first):
	case x.allowed(first, last, parts):
	default:
		name := x.nameOf(first, last, parts)
		x.markLasting("function "+name, lasts(name))
	}
}

// isObject reports whether the name is that of a table, an alias or a type.
func (x *reading) isObject(b *body) bool {
	switch b.before {
	case wAs, wInto, wTable, wReferences, wExists, wWith, cast:
		return true
	case wRecursive, wOrdinality:
		return b.earlier == wWith
	case comma:
		return b.level&withList != 0
	case wView:
		return b.ddl
	case wOn, wUsing: // CREATE INDEX ON table USING method (...)
		return b.index && b.depth == 0
	}
	return false
}

// isKeyword reports whether an unreserved keyword can only be meant as the keyword.
func (x *reading) isKeyword(b *body, k keyword, t token) bool {
	switch k {
	case wBy:
		return b.before == wGroup || b.before == wOrder || b.before == wPartition
	case wSets:
		return b.before == wGrouping
	case wRollup:
		return b.before == wBy && b.earlier == wGroup
	case wSet:
		return b.before == plain || b.before == wUpdate
	case wJoin:
		return b.before == plain
	case wConflict:
		return b.before == wOn
	case wMaterialized:
		return b.before == wAs || b.before == reserved && b.earlier == wAs
	case wInsert:
		return b.merge && b.before == wThen
	case wVarying:
		return b.before == reserved // CHARACTER VARYING
	case wZone:
		return b.before == wTime
	}
	switch name := string(x.lower(t)); {
	case b.before == wTablesample:
		return name == "bernoulli" || name == "system"
	case b.copies:
		switch name {
		case "stdin", "stdout", "force_quote", "force_not_null", "force_null":
			return b.copied
		}
		return false
	case b.ddl && b.before == wBy && b.earlier == wPartition:
		return name == "range" || name == "list" || name == "hash"
	case b.ddl:
		return name == "key"
	}
	return false
}

// allowed reports whether the function leaves nothing.
func (x *reading) allowed(first, last token, parts int) bool {
	name := x.folding(last)
	if x.list.extra[string(name)] {
		return true
	}
	switch parts {
	case 1:
		return x.list.builtin[string(name)]
	case 2:
		if x.list.builtin[string(name)] && string(x.folding(first)) == "pg_catalog" {
			return true
		}
		return len(x.list.extra) > 0 && x.list.extra[x.nameOf(first, last, parts)]
	}
	return false
}

// folding returns what a name stands for, until the next call.
func (x *reading) folding(t token) []byte {
	if t.kind == word {
		return x.lower(t)
	}
	return identifier(x.s.text, t)
}

// nameOf returns a function's name with its schema.
func (x *reading) nameOf(first, last token, parts int) string {
	name := string(identifier(x.s.text, last))
	if parts > 1 {
		name = string(identifier(x.s.text, first)) + "." + name
	}
	return name
}

// lasts reports whether DISCARD ALL doesn't end what a function leaves.
func lasts(name string) bool {
	name = name[strings.LastIndexByte(name, '.')+1:]
	switch name {
	case "setseed", "pg_backup_start", "pg_start_backup":
		return true
	}
	return strings.HasPrefix(name, "dblink") || strings.HasPrefix(name, "pg_replication_origin") ||
		strings.HasPrefix(name, "pg_") && strings.HasSuffix(name, "_slot")
}
