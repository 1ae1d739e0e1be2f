package endpoint

import (
	"path/filepath"
	"testing"
)

// BenchmarkDecode decodes an alert with eight pieces of evidence, each with all members of the flat object, as it is served.
func BenchmarkDecode(b *testing.B) {
	raw := alertsIn(b, filepath.Join("testdata", "alert-full.json"))[0]
	run := func(name string, element func(*Decoder) error) {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(raw)))
			b.ReportAllocs()
			d := NewDecoder()
			for b.Loop() {
				if err := element(d); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	run("parse", func(d *Decoder) error { return d.document.Parse(raw) })
	run("parse, hash", func(d *Decoder) error {
		err := d.document.Parse(raw)
		d.document.ContentHash(propertyEvidence)
		return err
	})
	run("parse, hash, decode", func(d *Decoder) error {
		_, err := d.Decode(raw)
		return err
	})
}
