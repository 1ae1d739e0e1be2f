package match

import (
	"strings"
	"unicode"
)

// commandLine is a command line in the form that is compared.
type commandLine struct {
	// text is the image's name and the arguments, without case and quotes, one space between two words.
	text string
	// arguments says that there are any. A line without says no more than the image's name does.
	arguments bool
}

// parseCommandLine reads a command line. The image is the first word (what quotes hold together is one), and is compared by its name
// without folder and without `.exe`, since Defender and the Director each write it as they met it.
func parseCommandLine(given string) commandLine {
	line := strings.TrimSpace(given)
	end := imageEnd(line)
	arguments := strings.Fields(withoutQuotes(line[end:]))
	words := append(strings.Fields(imageName(withoutQuotes(line[:end]))), arguments...)
	return commandLine{text: fold(strings.Join(words, " ")), arguments: len(arguments) > 0}
}

// imageEnd returns where the image ends in a command line, in bytes.
func imageEnd(line string) int {
	quoted := false
	for i, r := range line {
		switch {
		case r == '"':
			quoted = !quoted
		case unicode.IsSpace(r) && !quoted:
			return unquotedImageEnd(line, i)
		}
	}
	if quoted {
		// A quote that nothing closes holds nothing together.
		if i := strings.IndexFunc(line, unicode.IsSpace); i >= 0 {
			return i
		}
	}
	return len(line)
}

// unquotedImageEnd returns where the image ends of which the first word ends at i. A path from a root, with white space in it and no
// quotes around it, goes on until its `.exe`, as Windows looks for it, unless what lies between looks like arguments.
func unquotedImageEnd(line string, i int) int {
	const extension = ".exe"
	rooted := strings.HasPrefix(line, `\\`) || len(line) > 2 && line[1] == ':' && line[2] == '\\'
	if !rooted || hasExtension(line[:i], extension) {
		return i
	}
	for end := i; end+len(extension) <= len(line); end++ {
		behind := end + len(extension)
		if !strings.EqualFold(line[end:behind], extension) || behind < len(line) && line[behind] != ' ' {
			continue
		}
		between := line[i:end]
		if !strings.Contains(between, `\`) || strings.ContainsAny(between, `"':`) ||
			strings.Contains(between, " -") || strings.Contains(between, " /") {
			return i
		}
		return behind
	}
	return i
}

// imageName returns the name of an image, without its folder and without `.exe`.
func imageName(image string) string {
	name := image[strings.LastIndexAny(image, `\/`)+1:]
	if hasExtension(name, ".exe") && len(name) > len(".exe") {
		return name[:len(name)-len(".exe")]
	}
	return name
}

// hasExtension says that a name ends in an extension, which is ASCII, in any case.
func hasExtension(name, extension string) bool {
	return len(name) >= len(extension) && strings.EqualFold(name[len(name)-len(extension):], extension)
}

// withoutQuotes drops quotes: what stands in them is told apart by shells, and kernels tell it without.
func withoutQuotes(text string) string {
	return strings.Map(func(r rune) rune {
		if r == '"' || r == '\'' {
			return -1
		}
		return r
	}, text)
}

// fold returns a text without case, by Unicode's simple folding.
func fold(text string) string { return strings.Map(foldRune, text) }
