package match

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

func TestCommandLinesThatAreTheSame(t *testing.T) {
	tests := []struct {
		name, given, want string
		arguments         bool
	}{
		{"as it is", "cmd /c x", "cmd /c x", true},
		{"quotes, a folder, an extension", `"C:\Windows\System32\cmd.exe" /c x`, "cmd /c x", true},
		{"case", `CMD.EXE /C X`, "cmd /c x", true},
		{"white space", "  cmd.exe\t/c \n x  ", "cmd /c x", true},
		{"quotes around arguments", `cmd /c "x y" ''`, "cmd /c x y", true},
		{"the same as a kernel tells it", "cmd /c x y", "cmd /c x y", true},
		{"a folder with a space", `"C:\Program Files\a b\evil.exe" -x`, "evil -x", true},
		{"a folder with a space and no quotes", `C:\Program Files\a b\evil.exe -x`, "evil -x", true},
		{"nothing else after it", `C:\Program Files\evil.exe`, "evil", false},
		{"a share", `\\host\a b\evil.EXE x`, "evil x", true},
		{"a path among the arguments is none of the image's", `C:\tools\run C:\x\evil.exe a`, `run c:\x\evil.exe a`, true},
		{"nor is one behind an option", `C:\tools\run -f x\evil.exe a`, `run -f x\evil.exe a`, true},
		{"nor one in quotes", `C:\tools\run "x\evil.exe" a`, `run x\evil.exe a`, true},
		{"nor a name", `C:\tools\run evil.exe a`, `run evil.exe a`, true},
		{"quotes inside of the image", `C:\"Program Files"\evil.exe x`, "evil x", true},
		{"a quote that nothing closes", `"C:\Windows\cmd.exe /c x`, "cmd /c x", true},
		{"on Linux", "/bin/sh -c 'id -u'", "sh -c id -u", true},
		{"only an extension", ".exe x", ".exe x", true},
		{"no arguments", "cmd.exe", "cmd", false},
		{"no arguments but quotes", `cmd.exe "" `, "cmd", false},
		{"nothing", " \t", "", false},
		{"only quotes", `""`, "", false},
		{"only a folder", `C:\ x`, "x", true},
		{"letters beyond ASCII", "ÄRGER.exe ÖL", "ärger öl", true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			want := commandLine{fold(test.want), test.arguments}
			if got := parseCommandLine(test.given); got != want {
				t.Errorf("%s is %+v, want %+v", test.given, got, want)
			}
		})
	}
}

// FuzzCommandLine: whatever is given, what is compared has neither case nor quotes nor white space but single spaces, and does not
// change by case, by white space around it, or by quotes around the arguments.
func FuzzCommandLine(f *testing.F) {
	for _, given := range []string{
		"", `"C:\Windows\System32\cmd.exe" /c x`, `C:\Program Files\a.exe x`, `"`, `""`, `" "`, `\\a b\c.exe`, "C:\\ .exe", "ſ\u212a\xff'",
		`C:\a b\.exe`, "\u00a0x\u2003y",
	} {
		f.Add(given)
	}
	f.Fuzz(func(t *testing.T, given string) {
		got := parseCommandLine(given)
		if strings.ContainsAny(got.text, `"'`) || strings.Join(strings.Fields(got.text), " ") != got.text || !utf8.ValidString(got.text) {
			t.Fatalf("%q is compared as %q", given, got.text)
		}
		if fold(got.text) != got.text {
			t.Fatalf("%q is compared as %q, which has case", given, got.text)
		}
		if again := parseCommandLine("\t" + given + "\n "); again != got && utf8.ValidString(given) {
			t.Fatalf("%q is compared as %q, with white space around it as %q", given, got.text, again.text)
		}
		if again := parseCommandLine(asciiUpper(given)); again != got {
			t.Fatalf("%q is compared as %q, in upper case as %q", given, got.text, again.text)
		}
		if !strings.ContainsAny(given, `"'\/`) && !strings.ContainsFunc(given, unicode.IsSpace) && given != "" {
			bare, quoted := parseCommandLine(given+" x y"), parseCommandLine(`"`+given+`" "x" 'y'`)
			if bare != quoted || !bare.arguments {
				t.Fatalf("%q is compared as %+v, in quotes as %+v", given, bare, quoted)
			}
		}
	})
}

func asciiUpper(text string) string {
	data := []byte(text)
	for i, c := range data {
		if 'a' <= c && c <= 'z' {
			data[i] = c - 'a' + 'A'
		}
	}
	return string(data)
}
