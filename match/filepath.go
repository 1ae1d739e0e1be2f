package match

import (
	"strings"
	"unicode"

	integrationv1 "defender-integration/gen/defender/integration/v1"
)

// foldPath returns a file's path in the form that is compared: without case, \ and / alike and never two of them in a row, without
// quotes and spaces around it, and without a separator at its end.
func foldPath(given string) string {
	folded := fold(strings.TrimFunc(given, func(r rune) bool { return r == '"' || r == '\'' || unicode.IsSpace(r) }))
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

// wholePath returns a file's folder and name; empty where Defender tells no folder. In its file_path stands the folder, in some samples
// with the name.
func wholePath(file *integrationv1.FileDetails) string {
	folder, name := file.GetFilePath(), strings.TrimSpace(file.GetFileName())
	switch {
	case strings.TrimSpace(folder) == "":
		return ""
	case name == "" || foldPath(baseName(folder)) == foldPath(name):
		return folder
	}
	separator := `\`
	if strings.Contains(folder, "/") && !strings.Contains(folder, `\`) {
		separator = "/"
	}
	return strings.TrimRightFunc(folder, isSeparator) + separator + name
}

// fileName returns a file's name without its folder; where Defender tells none, the last part of its path.
func fileName(file *integrationv1.FileDetails) string {
	if name := baseName(file.GetFileName()); name != "" {
		return name
	}
	return baseName(file.GetFilePath())
}
