package reading

import (
	"testing"
	"time"
)

func TestQueries(t *testing.T) {
	list := &List{Updated: "updated", Created: "created"}
	expanding := &List{Updated: "updated", Created: "created", Expand: "evidence"}
	since := time.Date(2026, 1, 2, 3, 4, 5, 123456789, time.FixedZone("", 3600))
	for _, tt := range []struct {
		list  *List
		query query
		want  string
	}{
		{list, query{since: since}, "$filter=updated%20ge%202026-01-02T02%3A04%3A05.1234567Z&$orderby=updated%20asc&$top=7"},
		{expanding, query{}, "$filter=updated%20ge%200001-01-01T00%3A00%3A00.0000000Z&$orderby=updated%20asc&$top=7&$expand=evidence"},
		{
			list,
			query{since: since, instant: true, created: since.Add(Tick), skip: 10_000_000},
			"$filter=updated%20ge%202026-01-02T02%3A04%3A05.1234567Z%20and%20updated%20le%202026-01-02T02%3A04%3A05.1234567Z" +
				"%20and%20created%20ge%202026-01-02T02%3A04%3A05.1234568Z&$orderby=created%20asc&$top=7&$skip=10000000",
		},
	} {
		if got := tt.query.encode(tt.list, 7); got != tt.want {
			t.Errorf("%+v is asked as\n%s, want\n%s", tt.query, got, tt.want)
		}
	}
}
