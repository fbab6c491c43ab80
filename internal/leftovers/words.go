package leftovers

import "strings"

// keyword says what a word, or another token, means for the tokens after it.
type keyword uint8

const (
	plain    keyword = iota // an identifier, or a keyword that decides nothing
	reserved                // no function has this name unless it is quoted
	starts                  // another keyword that an expression may follow
	wAs
	wBy
	wConflict
	wDistinct
	wExecute
	wExists
	wFrom
	wGroup
	wGrouping
	wHold
	wInsert
	wInto
	wJoin
	wMaterialized
	wMerge
	wOn
	wOperator
	wOrder
	wOrdinality
	wPartition
	wQuery
	wRecursive
	wReferences
	wRollup
	wSet
	wSets
	wTable
	wTablesample
	wTemp
	wThen
	wTime
	wTo
	wUpdate
	wUsing
	wVarying
	wView
	wWith
	wZone

	// What is no word.
	operand // a literal, a parameter, or a closing parenthesis
	begin   // anything that an expression may follow
	comma
	opening
	cast
)

// keywords has the words that decide whether a name before a parenthesis is a function.
// Those that are reserved, or can only name columns and types, are so in all versions of
// PostgreSQL from 13 on.
var keywords = func() map[string]keyword {
	m := make(map[string]keyword)
	for k, words := range map[keyword]string{
		reserved: `all analyse analyze and any array asc asymmetric both case cast check collate column constraint create
			current_catalog current_date current_role current_time current_timestamp current_user default deferrable desc
			do else end except false fetch for foreign grant having in initially intersect lateral leading limit localtime
			localtimestamp not null offset only or placing primary returning session_user some symmetric trailing true
			union unique user variadic when where window
			between bigint bit boolean char character coalesce dec decimal extract float greatest inout int integer
			interval least national nchar none normalize nullif numeric out overlay position precision real row setof
			smallint substring timestamp treat trim varchar xmlattributes xmlconcat xmlelement xmlexists xmlforest
			xmlnamespaces xmlparse xmlpi xmlroot xmlserialize xmltable`,
		starts: `absent content document escape first following groups key local next path preceding range ref rows
			value`,
		wAs: "as", wBy: "by", wConflict: "conflict", wDistinct: "distinct", wExecute: "execute", wExists: "exists",
		wFrom: "from", wGroup: "group", wGrouping: "grouping", wHold: "hold", wInsert: "insert", wInto: "into",
		wJoin: "join like ilike", wMaterialized: "materialized", wMerge: "merge", wOn: "on", wOperator: "operator",
		wOrder: "order", wOrdinality: "ordinality", wPartition: "partition", wQuery: "select values", wRecursive: "recursive",
		wReferences: "references", wRollup: "rollup cube", wSet: "set", wSets: "sets", wTable: "table",
		wTablesample: "tablesample", wTemp: "temp temporary global", wThen: "then", wTime: "time", wTo: "to",
		wUpdate: "update delete", wUsing: "using", wVarying: "varying", wView: "view", wWith: "with", wZone: "zone",
	} {
		for _, w := range strings.Fields(words) {
			m[w] = k
		}
	}
	return m
}()

// longestKeyword bounds what is looked up.
const longestKeyword = len("current_timestamp")

// functional reports whether the word can be the name of a function when it isn't quoted.
func (k keyword) functional() bool {
	switch k {
	case reserved, wAs, wDistinct, wExists, wFrom, wGroup, wGrouping, wInto, wOn, wOrder, wQuery, wReferences, wTable, wThen,
		wTime, wTo, wUsing, wWith:
		return false
	}
	return true
}

// fold writes an identifier in lower case, as PostgreSQL does for ASCII, into buf and
// returns it. It returns nil for one that is longer than any name in PostgreSQL.
func fold(buf *[longestName]byte, name []byte) []byte {
	if len(name) > len(buf) {
		return nil
	}
	for i, c := range name {
		if c >= 'A' && c <= 'Z' {
			c |= 0x20
		}
		buf[i] = c
	}
	return buf[:len(name)]
}

// longestName is the longest name of anything in PostgreSQL; what is longer is cut.
const longestName = 63
