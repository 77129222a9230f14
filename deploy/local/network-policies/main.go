// network-policies --kubeconfig FILE --node NAME --services CIDR
//
// Enforces NetworkPolicies for the Pods of a node, in the network namespace that it runs in: kube-router's firewall,
// and nothing else of kube-router. It needs root, iptables and ipset.
package main

import (
	"flag"
	"fmt"
	"os"
	"sync"

	"github.com/cloudnativelabs/kube-router/v2/pkg/controllers/netpol"
	"github.com/cloudnativelabs/kube-router/v2/pkg/healthcheck"
	"github.com/cloudnativelabs/kube-router/v2/pkg/options"
	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
)

func main() {
	settings := options.NewKubeRouterConfig()
	flag.StringVar(&settings.Kubeconfig, "kubeconfig", "", "how the API server is reached")
	flag.StringVar(&settings.HostnameOverride, "node", "", "the name of the node")
	services := flag.String("services", "", "where the addresses of Services are, as the API server has it")
	flag.Parse()
	settings.ClusterIPCIDRs = []string{*services}
	settings.EnableIPv4 = true
	if err := enforce(settings); err != nil {
		fmt.Fprintln(os.Stderr, "network-policies:", err)
		os.Exit(1)
	}
}

// Returns only if it cannot start.
func enforce(settings *options.KubeRouterConfig) error {
	way, err := clientcmd.BuildConfigFromFlags("", settings.Kubeconfig)
	if err != nil {
		return err
	}
	cluster, err := kubernetes.NewForConfig(way)
	if err != nil {
		return err
	}
	forever := make(chan struct{})
	pods := follow(cluster.CoreV1().RESTClient(), "pods", &core.Pod{}, forever)
	namespaces := follow(cluster.CoreV1().RESTClient(), "namespaces", &core.Namespace{}, forever)
	policies := follow(cluster.NetworkingV1().RESTClient(), "networkpolicies", &networking.NetworkPolicy{}, forever)

	tables, sets, err := netpol.NewIPTablesHandlers(settings)
	if err != nil {
		return err
	}
	var sole sync.Mutex
	firewall, err := netpol.NewNetworkPolicyController(cluster, settings, pods, policies, namespaces, &sole, tables, sets)
	if err != nil {
		return err
	}
	for followed, handler := range map[cache.SharedIndexInformer]cache.ResourceEventHandler{
		pods: firewall.PodEventHandler, namespaces: firewall.NamespaceEventHandler, policies: firewall.NetworkPolicyEventHandler,
	} {
		if _, err := followed.AddEventHandler(handler); err != nil {
			return err
		}
	}

	// It says again and again that it lives: nobody asks.
	heartbeats := make(chan *healthcheck.ControllerHeartbeat)
	go func() {
		for range heartbeats {
		}
	}()
	var running sync.WaitGroup
	running.Add(1)
	firewall.Run(heartbeats, forever, &running)
	return nil
}

// All objects of a resource, as they are now and as they change.
func follow(from cache.Getter, resource string, kind runtime.Object, until <-chan struct{}) cache.SharedIndexInformer {
	all := cache.NewListWatchFromClient(from, resource, "", fields.Everything())
	// The factory of client-go would have all of its informers compiled.
	followed := cache.NewSharedIndexInformer(all, kind, 0, cache.Indexers{cache.NamespaceIndex: cache.MetaNamespaceIndexFunc})
	go followed.Run(until)
	cache.WaitForCacheSync(until, followed.HasSynced)
	return followed
}
