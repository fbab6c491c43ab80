package auth

import "testing"

func TestMapsLeadFromCertificatesToUsers(t *testing.T) {
	var lines []IdentLine
	for _, f := range [][3]string{
		{"m", "Jane Doe", "jane"}, {"m", `/^(.*)@example\.com$`, `u_\1`}, {"m", "root", "all"}, {"m", "/^ops", "/^adm"}, {"n", "root", "x"},
	} {
		l, err := NewIdentLine(f[0], f[1], f[2], f[2] == "all")
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, l)
	}
	for _, tc := range []struct {
		mapName, system, user string
		want                  bool
	}{
		{"", "jane", "jane", true},
		{"", "Jane", "jane", false},
		{"", "root", "x", false},
		{"m", "Jane Doe", "jane", true},
		{"m", "jane", "jane", false},
		{"m", "joe@example.com", "u_joe", true},
		{"m", "joe@example.com", "joe", false},
		{"m", "joe@example.org", "u_joe", false},
		{"m", "root", "anybody", true},
		{"n", "root", "anybody", false},
		{"n", "root", "x", true},
		{"m", "ops1", "admin", true},
		{"m", "ops1", "x", false},
		{"o", "root", "root", false},
	} {
		if got := MayBe(lines, tc.mapName, tc.system, tc.user); got != tc.want {
			t.Errorf("map %q, %s as %s: %v", tc.mapName, tc.system, tc.user, got)
		}
	}
}
