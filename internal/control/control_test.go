package control

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
)

func TestCommandsAreToldApart(t *testing.T) {
	names, numbers := map[string]bool{}, map[int]bool{}
	for _, c := range Commands {
		if names[c.Name] || numbers[c.Number] || c.Number == 0 || c.Failure == 0 || c.Limit == 0 {
			t.Errorf("%+v: another command has its name or number, or something is missing", c)
		}
		names[c.Name], numbers[c.Number] = true, true
		if got := Find(c.Name); got == nil || got.Name != c.Name {
			t.Errorf("%s isn't found", c.Name)
		}
		if c.Waits != (c.Allows(time.Minute) == c.Limit+time.Minute) || c.Waits && !c.Takes(ArgTimeout) {
			t.Errorf("%s: Waits, Allows and ArgTimeout disagree", c.Name)
		}
	}
	if Find("nothing") != nil {
		t.Error("an unknown command is found")
	}
}

// People read the printed document, so its members come in the order of the types.
func TestDocumentKeepsItsOrder(t *testing.T) {
	d := Document{Header: Header{Command: Ping}}
	if err := d.Succeed(PingResponse{Writable: true, Servers: map[string]PingServer{"a<b": {}}}, "9", 3723*time.Second); err != nil {
		t.Fatal(err)
	}
	raw, err := Encode(d)
	if err != nil {
		t.Fatal(err)
	}
	at := -1
	for _, text := range []string{`"Header"`, `"Request":{}`, `"Response":{"ServerVersion":"9","Writable":true,"Servers":{"a<b"`, `"Outcome":{"Status":true,"Time":"01:02:03"}`} {
		i := strings.Index(string(raw), text)
		if i <= at {
			t.Errorf("%s is missing or in the wrong place: %s", text, raw)
		}
		at = i
	}
}

func TestResponsesAreObjects(t *testing.T) {
	var d Document
	if err := d.Succeed([]int{1}, "9", 0); err == nil {
		t.Error("a list was taken for a response")
	}
	if err := d.Succeed(struct{}{}, "9", 0); err != nil || string(d.Response) != `{"ServerVersion":"9"}` {
		t.Errorf("an empty response is %s, %v", d.Response, err)
	}
	if err := d.Succeed(nil, "9", 0); err != nil || !d.Outcome.Status {
		t.Errorf("no response: %+v, %v", d.Outcome, err)
	}
	d.Fail(CodePing, "why")
	var got map[string]any
	raw, err := Encode(d)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, &got); err != nil || got["Response"] != nil {
		t.Errorf("a failure has a response: %s, %v", raw, err)
	}
}
