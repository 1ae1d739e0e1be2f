package demo

import (
	"strings"
	"unicode/utf8"
)

// table is rows of cells under a head.
type table struct {
	head []string
	rows [][]cell
}

// cell is a text with its colour.
type cell struct {
	text   string
	colour colour
}

// add adds a row.
func (t *table) add(row ...cell) { t.rows = append(t.rows, row) }

// mark is the cell that says whether something is as it was scripted.
func mark(asScripted bool) cell {
	if asScripted {
		return cell{"[ok]", green}
	}
	return cell{"[NO]", red}
}

// gap is what stands before each column.
const gap = "  "

// widths returns how wide each column is: as its widest cell, but all together no more than a line. What is too much is taken from
// the widest, again and again, and their cells are broken into lines.
func (t *table) widths() []int {
	widths := make([]int, len(t.head))
	used := 0
	for i := range widths {
		widths[i] = utf8.RuneCountInString(t.head[i])
		for _, row := range t.rows {
			widths[i] = max(widths[i], utf8.RuneCountInString(row[i].text))
		}
		used += len(gap) + widths[i]
	}
	for ; used > width; used-- {
		widest := 0
		for i, w := range widths {
			if w > widths[widest] {
				widest = i
			}
		}
		widths[widest]--
	}
	return t.fitted(widths)
}

// fitted returns columns as wide as their lines are when they are broken at given widths.
func (t *table) fitted(widths []int) []int {
	fitted := make([]int, len(widths))
	fit := func(i int, text string) {
		for _, line := range wrap(text, widths[i]) {
			fitted[i] = max(fitted[i], utf8.RuneCountInString(line))
		}
	}
	for i, text := range t.head {
		fit(i, text)
		for _, row := range t.rows {
			fit(i, row[i].text)
		}
	}
	return fitted
}

// table prints a table. The caller holds mu.
func (n *narrator) table(t table) {
	widths := t.widths()
	head := make([]cell, len(t.head))
	for i, text := range t.head {
		head[i] = cell{text, bold}
	}
	n.row(head, widths)
	for _, row := range t.rows {
		n.row(row, widths)
	}
}

// row prints a row of a table, in as many lines as its longest cell needs.
func (n *narrator) row(row []cell, widths []int) {
	lines := make([][]string, len(row))
	most := 0
	for i, c := range row {
		lines[i] = wrap(c.text, widths[i])
		most = max(most, len(lines[i]))
	}
	for l := range most {
		var line strings.Builder
		blank := 0 // columns that are still to be filled, if anything comes
		for i, c := range row {
			blank += len(gap)
			text := ""
			if l < len(lines[i]) {
				text = lines[i][l]
			}
			if text != "" {
				line.WriteString(strings.Repeat(" ", blank) + n.paint(c.colour, text))
				blank = -utf8.RuneCountInString(text)
			}
			blank += widths[i]
		}
		n.print(line.String() + "\n")
	}
}
