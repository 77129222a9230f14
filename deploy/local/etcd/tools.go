//go:build tools

// Package tools names the command that ../build compiles, so that go.mod and
// go.sum pin all that it needs. It is a module of its own because Kubernetes
// asks for other versions of the libraries that they share.
package tools

import _ "go.etcd.io/etcd/server/v3"
