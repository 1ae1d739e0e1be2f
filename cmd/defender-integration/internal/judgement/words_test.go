package judgement_test

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// midnight is when the day begins on which every case plays. Fake time begins with the year 2000.
var midnight = time.Date(2001, time.January, 10, 0, 0, 0, 0, time.UTC)

// moment is a time as cases write it: `12:10` or `12:10:30.5` on the day of the case, `-1d 12:10` on the day before.
type moment struct{ time.Time }

var momentForm = regexp.MustCompile(`^(?:([+-]\d+)d )?(\d\d):(\d\d)(?::(\d\d(?:\.\d{1,7})?))?$`)

// at reads a moment that stands in the tests themselves.
func at(text string) time.Time {
	t, err := parseMoment(text)
	if err != nil {
		panic(err)
	}
	return t
}

func parseMoment(text string) (time.Time, error) {
	parts := momentForm.FindStringSubmatch(text)
	if parts == nil {
		return time.Time{}, fmt.Errorf("%q is no time such as 12:10, 12:10:30 or -1d 12:10", text)
	}
	// The form admits nothing that cannot be read; what is not there is zero.
	days, _ := strconv.Atoi(parts[1])
	hours, _ := strconv.Atoi(parts[2])
	minutes, _ := strconv.Atoi(parts[3])
	seconds, _ := strconv.ParseFloat(parts[4], 64)
	return midnight.AddDate(0, 0, days).Add(time.Duration(hours)*time.Hour + time.Duration(minutes)*time.Minute +
		time.Duration(seconds*1e3)*time.Millisecond), nil
}

// UnmarshalYAML reads a moment.
func (m *moment) UnmarshalYAML(node *yaml.Node) (err error) {
	m.Time, err = parseMoment(node.Value)
	return err
}

// or returns the moment, or another one where it is not set.
func (m *moment) or(otherwise time.Time) time.Time {
	if m == nil {
		return otherwise
	}
	return m.Time
}

// clock writes a time as cases do.
func clock(t time.Time) string {
	days := int(t.Sub(midnight)/(24*time.Hour)) - boolToInt(t.Before(midnight))
	text := t.UTC().Format("15:04:05.999")
	if days != 0 {
		text = fmt.Sprintf("%+dd %s", days, text)
	}
	return text
}

func boolToInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

// span is a length of time as cases write it, such as `5m`.
type span struct{ time.Duration }

// UnmarshalYAML reads a span.
func (s *span) UnmarshalYAML(node *yaml.Node) (err error) {
	s.Duration, err = time.ParseDuration(node.Value)
	return err
}

// word is a value of an enumeration of the contract, written without the enumeration's name: `DETECTED_LATE`.
type word[E protoreflect.Enum] struct{ value E }

// UnmarshalYAML reads a word.
func (w *word[E]) UnmarshalYAML(node *yaml.Node) error {
	for name, value := range words[E]() {
		if name == node.Value && value.Number() != 0 {
			w.value = value
			return nil
		}
	}
	return fmt.Errorf("line %d: %q is no %s", node.Line, node.Value, w.value.Descriptor().Name())
}

// String returns the word as cases write it.
func (w word[E]) String() string { return spell(w.value) }

// set says that the word is not the enumeration's value for none.
func (w word[E]) set() bool { return w.value.Number() != 0 }

// words are the words of an enumeration.
func words[E protoreflect.Enum]() map[string]E {
	var none E
	all := map[string]E{}
	values := none.Descriptor().Values()
	for i := range values.Len() {
		value := none.Type().New(values.Get(i).Number()).(E)
		all[spell(value)] = value
	}
	return all
}

// spell writes a value of an enumeration as cases do.
func spell[E protoreflect.Enum](value E) string {
	values := value.Descriptor().Values()
	prefix := strings.TrimSuffix(string(values.ByNumber(0).Name()), "UNSPECIFIED")
	found := values.ByNumber(value.Number())
	if found == nil {
		return strconv.Itoa(int(value.Number()))
	}
	return strings.TrimPrefix(string(found.Name()), prefix)
}

// enum is the word's value.
func (w word[E]) enum() protoreflect.Enum { return w.value }
