package hunting

import (
	"strings"
	"time"
	"unicode"
)

// What follows compares a value of the Director's with one of a row. Both sides write the same thing differently: the one as it started
// it, the other as the kernel told it.

// creationTolerance is how far apart two tell the creation of one process: each by its own rounding.
const creationTolerance = 2 * time.Second

// told says that there is a process, with its creation time: ids are used again, so that one alone says nothing.
func (p process) told() bool { return p.id != 0 && !p.created.IsZero() }

// same says whether two are one process of one device.
func (p process) same(other process) bool {
	return p.told() && other.told() && p.id == other.id && p.created.Sub(other.created).Abs() <= creationTolerance
}

// fold returns a text without case.
func fold(text string) string { return strings.ToLower(strings.ToUpper(strings.TrimSpace(text))) }

// The hashes of a file that is empty, which many are.
const (
	emptyMD5    = "d41d8cd98f00b204e9800998ecf8427e"
	emptySHA1   = "da39a3ee5e6b4b0d3255bfef95601890afd80709"
	emptySHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
)

// foldHash returns a hash in the form that is compared; empty where it is none, or tells of no file: zeros, or that of nothing. Its length
// tells its kind.
func foldHash(given string) string {
	folded := strings.ToLower(strings.TrimSpace(given))
	switch len(folded) {
	case 32, 40, 64: // MD5, SHA-1, SHA-256
	default:
		return ""
	}
	if strings.Trim(folded, "0123456789abcdef") != "" || strings.Trim(folded, "0") == "" {
		return ""
	}
	switch folded {
	case emptyMD5, emptySHA1, emptySHA256:
		return ""
	}
	return folded
}

// foldLine returns a command line in the form that is compared: without case and quotes, white space as single blanks, the image by its
// name alone, without folder and `.exe`. It is empty where the line has no arguments: then it says no more than the image's name does.
func foldLine(given string) string {
	image, arguments := splitLine(given)
	words := strings.Fields(withoutQuotes(arguments))
	if len(words) == 0 {
		return ""
	}
	name := strings.Join(strings.Fields(imageName(image)), " ")
	return fold(name + " " + strings.Join(words, " "))
}

// splitLine takes a command line apart into its image, which is the first word (quotes hold together what is in them), and the rest.
func splitLine(given string) (image, arguments string) {
	line := strings.TrimSpace(given)
	quoted := strings.Count(line, `"`)%2 == 0
	in := false
	for i, r := range line {
		switch {
		case r == '"' && quoted:
			in = !in
		case unicode.IsSpace(r) && !in:
			return line[:i], line[i:]
		}
	}
	return line, ""
}

// imageName returns the name of an image, without quotes, its folder and `.exe`.
func imageName(image string) string {
	name := baseName(withoutQuotes(image))
	const extension = ".exe"
	if at := len(name) - len(extension); at > 0 && strings.EqualFold(name[at:], extension) {
		return name[:at]
	}
	return name
}

// withoutQuotes drops quotes: shells tell apart by them, and kernels do not.
func withoutQuotes(text string) string {
	return strings.Map(func(r rune) rune {
		if r == '"' || r == '\'' {
			return -1
		}
		return r
	}, text)
}

// foldPath returns a file's path in the form that is compared: without case, quotes and spaces around it, \ and / alike.
func foldPath(given string) string {
	folded := strings.Trim(fold(given), `"'`)
	path := strings.Join(strings.FieldsFunc(folded, isSeparator), "/")
	if path != "" && isSeparator(rune(folded[0])) {
		return "/" + path
	}
	return path
}

// baseName returns the last part of a path.
func baseName(path string) string {
	path = strings.TrimRightFunc(path, isSeparator)
	return path[strings.LastIndexFunc(path, isSeparator)+1:]
}

func isSeparator(r rune) bool { return r == '/' || r == '\\' }

// path returns a file's whole path; empty where the row tells no folder. FolderPath holds the folder, and mostly the name as well.
func (f file) path() string {
	folder, name := strings.TrimSpace(f.folder), strings.TrimSpace(f.name)
	if folder == "" || name == "" || fold(baseName(folder)) == fold(name) {
		return folder
	}
	separator := `\`
	if strings.Contains(folder, "/") && !strings.Contains(folder, `\`) {
		separator = "/"
	}
	return strings.TrimRightFunc(folder, isSeparator) + separator + name
}

// baseName returns a file's name; where the row tells none, the last part of its path.
func (f file) baseName() string {
	if f.name != "" {
		return baseName(f.name)
	}
	return baseName(f.folder)
}

// same says whether a row's account is the one that is given as a name, `DOMAIN\name`, a user principal name or a security identifier.
func (a rowAccount) same(given string) bool {
	given = fold(given)
	switch {
	case given == "":
		return false
	case strings.HasPrefix(given, "s-1-"):
		return fold(a.sid) == given
	case fold(a.upn) == given:
		return true
	}
	name, domain := given, ""
	if before, after, ok := strings.Cut(given, `\`); ok {
		name, domain = after, before
	} else if i := strings.LastIndexByte(given, '@'); i >= 0 {
		name, domain = given[:i], given[i+1:]
	}
	return name != "" && fold(a.name) == name && sameDomain(domain, fold(a.domain))
}

// sameDomain says that two domains may be the same: the one of NetBIOS is the first label of the one in DNS, and one that is not told,
// or stands for whichever machine it is, is any.
func sameDomain(x, y string) bool {
	if x == "" || x == "." || y == "" || x == y {
		return true
	}
	bothFull := strings.Contains(x, ".") && strings.Contains(y, ".")
	return !bothFull && firstLabel(x) == firstLabel(y)
}

// firstLabel is a name up to its first dot.
func firstLabel(name string) string {
	label, _, _ := strings.Cut(name, ".")
	return label
}
