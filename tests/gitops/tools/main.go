// Command tools says what the libraries of GitOps tools make of an object:
//
//	tools kstatus              what kstatus computes
//	tools flux KUSTOMIZATION   what Flux does, with spec.healthCheckExprs of that file
//	tools lua SCRIPT           what a script of Argo CD returns
//
// It reads the object as JSON, and prints the answer as JSON.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/fluxcd/cli-utils/pkg/kstatus/polling/engine"
	kustomize "github.com/fluxcd/kustomize-controller/api/v1"
	"github.com/fluxcd/pkg/runtime/cel"
	lua "github.com/yuin/gopher-lua"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	luajson "layeh.com/gopher-json"
	"sigs.k8s.io/cli-utils/pkg/kstatus/status"
	"sigs.k8s.io/yaml"
)

func main() {
	text, err := answer(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "tools:", err)
		os.Exit(1)
	}
	os.Stdout.Write(text)
}

func answer(arguments []string) ([]byte, error) {
	object, err := io.ReadAll(os.Stdin)
	if err != nil {
		return nil, err
	}
	switch {
	case len(arguments) == 1 && arguments[0] == "kstatus":
		return askKstatus(object)
	case len(arguments) == 2 && arguments[0] == "flux":
		return askFlux(object, arguments[1])
	case len(arguments) == 2 && arguments[0] == "lua":
		return runLua(object, arguments[1])
	}
	return nil, fmt.Errorf("does not know %q", arguments)
}

// What both kstatus and Flux answer.
type verdict struct {
	Status  string `json:"status"`
	Message string `json:"message"`
}

func askKstatus(text []byte) ([]byte, error) {
	object, err := parse(text)
	if err != nil {
		return nil, err
	}
	result, err := status.Compute(object)
	if err != nil {
		return nil, err
	}
	return json.Marshal(verdict{string(result.Status), result.Message})
}

// As kustomize-controller does: its expressions for the kinds that they name, kstatus for all others.
func askFlux(text []byte, file string) ([]byte, error) {
	object, err := parse(text)
	if err != nil {
		return nil, err
	}
	reader, err := readerOf(file)
	if err != nil {
		return nil, err
	}
	if !reader.Supports(object.GroupVersionKind().GroupKind()) {
		return askKstatus(text)
	}
	result, err := reader.ReadStatusForObject(context.Background(), nil, object)
	if err != nil {
		return nil, err
	}
	if result.Error != nil {
		return nil, result.Error
	}
	return json.Marshal(verdict{string(result.Status), result.Message})
}

func readerOf(file string) (engine.StatusReader, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var kustomization kustomize.Kustomization
	if err := yaml.UnmarshalStrict(text, &kustomization); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	reader, err := cel.NewStatusReader(kustomization.Spec.HealthCheckExprs)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return reader(meta.RESTMapper(nil)), nil
}

func parse(text []byte) (*unstructured.Unstructured, error) {
	object := &unstructured.Unstructured{}
	return object, object.UnmarshalJSON(text)
}

// With the libraries, the limit of time and the translation that Argo CD gives its scripts (util/lua/lua.go).
func runLua(object []byte, file string) ([]byte, error) {
	machine := lua.NewState(lua.Options{SkipOpenLibs: true})
	defer machine.Close()
	for name, open := range map[string]lua.LGFunction{
		lua.LoadLibName: lua.OpenPackage,
		lua.BaseLibName: lua.OpenBase,
		lua.TabLibName:  lua.OpenTable,
	} {
		call := lua.P{Fn: machine.NewFunction(open), Protect: true}
		if err := machine.CallByParam(call, lua.LString(name)); err != nil {
			return nil, err
		}
	}
	limit, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	machine.SetContext(limit)
	value, err := luajson.Decode(machine, object)
	if err != nil {
		return nil, err
	}
	machine.SetGlobal("obj", value)
	if err := machine.DoFile(file); err != nil {
		return nil, err
	}
	returned := machine.Get(-1)
	if returned.Type() != lua.LTTable {
		return nil, fmt.Errorf("%s returned no table, but a %s", file, returned.Type())
	}
	return luajson.Encode(returned)
}
