package config

import (
	"fmt"
	"math/bits"
	"net/netip"
	"slices"
	"strings"
)

// Words for addresses, besides all.
const (
	sameHost = "samehost"
	sameNet  = "samenet"
)

// hbaAddress reads the address and returns the fields after it. As in PostgreSQL, a network is one field, or two with an
// address and a mask.
func hbaAddress(f []field) (address string, rest []field, fail *FileError) {
	text, ok := f[0].sole()
	wrong := func(format string, args ...any) (string, []field, *FileError) {
		return "", nil, f[0].fail("the address %s %s", text, fmt.Sprintf(format, args...))
	}
	addr, err := netip.ParseAddr(text)
	single := err == nil && addr.Zone() == ""
	switch word := strings.ToLower(text); {
	case len(f[0].words) > 1:
		return wrong("is the first of a list; write a line for each network")
	case !ok:
		return wrong("is in quotes; write it without them")
	case word == All:
		return All, f[1:], nil
	case text == sameHost, text == sameNet:
		return text, f[1:], nil
	case single && len(f) > 1 && isAddress(f[1]):
		p, ok := maskedPrefix(addr, f[1])
		if !ok {
			return wrong("and the mask %s are no network; write one such as 192.0.2.0 255.255.255.0", f[1].words[0].text)
		}
		return p.String(), f[2:], nil
	case single:
		return wrong("has no mask; write %s for this address alone, or a network such as 192.0.2.0/24", netip.PrefixFrom(addr, addr.BitLen()))
	case strings.Contains(text, "/"):
		if _, err := netip.ParsePrefix(text); err != nil {
			return wrong("is not a network; write one such as 192.0.2.0/24 or 2001:db8::/32")
		}
		return text, f[1:], nil
	case !isHostName(word):
		return wrong("is neither a network nor the name of a host; write all, a network such as 192.0.2.0/24 or 2001:db8::/32, or a name")
	case len(f) > 1 && isAddress(f[1]):
		return wrong("is the name of a host, and has no mask; delete %s", f[1].words[0].text)
	}
	return strings.ToLower(text), f[1:], nil
}

// isHostName says whether a word in lower case is the name of a host, or a dot and the end of one.
func isHostName(word string) bool {
	labels := strings.Split(strings.TrimPrefix(word, "."), ".")
	numeric := true
	for _, l := range labels {
		if l == "" || len(l) > 63 || strings.Trim(l, "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" || l[0] == '-' {
			return false
		}
		numeric = strings.Trim(l, "0123456789") == ""
	}
	return !numeric && len(word) <= 253
}

func isAddress(f field) bool {
	text, ok := f.sole()
	_, err := netip.ParseAddr(text)
	return ok && err == nil
}

// maskedPrefix makes a network of an address and a mask of the same family; the set bits of the mask must be
// contiguous.
func maskedPrefix(addr netip.Addr, f field) (netip.Prefix, bool) {
	mask, err := netip.ParseAddr(f.words[0].text)
	if err != nil || mask.Zone() != "" || mask.BitLen() != addr.BitLen() {
		return netip.Prefix{}, false
	}
	ones := 0
	for _, b := range mask.AsSlice() {
		ones += bits.OnesCount8(b)
	}
	allOnes, _ := netip.AddrFromSlice(slices.Repeat([]byte{0xff}, mask.BitLen()/8))
	run := netip.PrefixFrom(allOnes, ones).Masked().Addr()
	return netip.PrefixFrom(addr, ones), run == mask
}
