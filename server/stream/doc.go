// Package stream sends alerts: it turns an integration's journal into the events of a stream, decides where a stream goes on,
// and judges when it completes.
//
// A [feed] reads each journal once in this process and keeps an index of it by what machines are recognised by. A session is one
// stream: a position, a few keys, and the facts about its Actors' devices. It is woken when the feed has an entry for its keys,
// and pulls the entries at its own pace, so a slow one holds nothing and nobody.
//
// What a session sends depends only on its request and the journal, *actors*, *progress* and *gap* apart, which tell the
// present. So a session that is rebuilt from a token says what the one before would have said.
package stream
