package graph

import (
	"bytes"
	"math/rand/v2"
	"testing"
	"time"

	"defender-integration/defender/defendertest"
	"defender-integration/defender/page"
)

// samplePage returns a page of alerts whose shape follows a real tenant's, some 5.7 KB each.
func samplePage(b *testing.B, n int) []byte {
	b.Helper()
	server, err := defendertest.New(defendertest.Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = server.Close() }()
	tenant := server.AddTenant(tenantID)
	now := time.Now()
	tenant.AddAlerts(defendertest.Generate(rand.New(rand.NewPCG(1, 2)), n, defendertest.Shape{First: now.Add(-time.Hour), Step: time.Second}))
	body := []byte(`{"value":[`)
	for i, r := range tenant.Revisions() {
		if i > 0 {
			body = append(body, ',')
		}
		body = append(body, r.Raw...)
	}
	return append(body, "]}"...)
}

func BenchmarkDecode(b *testing.B) {
	body := samplePage(b, 200)
	run := func(name string, element func(*testing.B, *Decoder, []byte)) {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			d := NewDecoder()
			for b.Loop() {
				_, err := page.Read(bytes.NewReader(body), func(raw []byte) error {
					element(b, d, raw)
					return nil
				})
				if err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	run("split", func(*testing.B, *Decoder, []byte) {})
	run("split, parse", func(b *testing.B, d *Decoder, raw []byte) {
		if err := d.document.Parse(raw); err != nil {
			b.Fatal(err)
		}
	})
	run("split, parse, hash", func(b *testing.B, d *Decoder, raw []byte) {
		if err := d.document.Parse(raw); err != nil {
			b.Fatal(err)
		}
		d.document.ContentHash(propertyEvidence)
	})
	run("split, parse, hash, decode", func(b *testing.B, d *Decoder, raw []byte) {
		if _, err := d.Decode(raw); err != nil {
			b.Fatal(err)
		}
	})
}
