//go:build tools

// Package tools names the command that ../go-tool compiles, so that go.mod and
// go.sum pin all that it needs.
package tools

import _ "github.com/zegl/kube-score/cmd/kube-score"
