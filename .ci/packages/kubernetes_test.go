package main

import (
	"bytes"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer/json"
)

// decoded are the objects of the manifest by kind and name. A field that the API doesn't know is an error.
func decoded(t *testing.T, text []byte) (map[string]runtime.Object, error) {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{appsv1.AddToScheme, corev1.AddToScheme, policyv1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	decoder := json.NewSerializerWithOptions(json.DefaultMetaFactory, scheme, scheme, json.SerializerOptions{Yaml: true, Strict: true})
	objects := map[string]runtime.Object{}
	for doc := range bytes.SplitSeq(text, []byte("\n---\n")) {
		o, kind, err := decoder.Decode(doc, nil, nil)
		if err != nil {
			return nil, err
		}
		objects[kind.Kind+" "+o.(metav1.Object).GetName()] = o
	}
	return objects, nil
}

func manifest(t *testing.T) []byte {
	t.Helper()
	text, err := os.ReadFile("../../contrib/kubernetes/pgagroal.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestManifestIsWhatTheAPITakes(t *testing.T) {
	objects, err := decoded(t, manifest(t))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"ConfigMap pgagroal", "Deployment pgagroal", "PodDisruptionBudget pgagroal", "Secret pgagroal-master-key", "Secret pgagroal-users", "Service pgagroal",
	}
	if got := slices.Sorted(maps.Keys(objects)); !slices.Equal(got, want) {
		t.Errorf("objects %q", got)
	}
	d := objects["Deployment pgagroal"].(*appsv1.Deployment)
	pod := labels.Set(d.Spec.Template.Labels)
	for what, selector := range map[string]*metav1.LabelSelector{
		"deployment": d.Spec.Selector, "disruption budget": objects["PodDisruptionBudget pgagroal"].(*policyv1.PodDisruptionBudget).Spec.Selector,
		"service": {MatchLabels: objects["Service pgagroal"].(*corev1.Service).Spec.Selector},
	} {
		s, err := metav1.LabelSelectorAsSelector(selector)
		if err != nil || s.Empty() || !s.Matches(pod) {
			t.Errorf("the selector of the %s doesn't choose the pods: %v", what, err)
		}
	}
	if min := objects["PodDisruptionBudget pgagroal"].(*policyv1.PodDisruptionBudget).Spec.MinAvailable.IntValue(); min < 1 || min >= int(*d.Spec.Replicas) {
		t.Errorf("%d of %d pods must stay: nothing is kept up, or nothing can be moved", min, *d.Spec.Replicas)
	}
	namesFit(t, objects, d.Spec.Template.Spec)
}

// namesFit looks up what the pod names: objects, volumes and ports.
func namesFit(t *testing.T, objects map[string]runtime.Object, pod corev1.PodSpec) {
	t.Helper()
	c := pod.Containers[0]
	volumes, ports := map[string]bool{}, map[string]bool{}
	for _, v := range pod.Volumes {
		volumes[v.Name] = true
		if v.Secret != nil && objects["Secret "+v.Secret.SecretName] == nil {
			t.Errorf("no secret %s", v.Secret.SecretName)
		}
		if v.Projected == nil {
			continue
		}
		for _, s := range v.Projected.Sources {
			if s.ConfigMap != nil && objects["ConfigMap "+s.ConfigMap.Name] == nil || s.Secret != nil && objects["Secret "+s.Secret.Name] == nil {
				t.Errorf("the volume %s names an object that isn't there", v.Name)
			}
		}
	}
	for _, m := range c.VolumeMounts {
		if !volumes[m.Name] {
			t.Errorf("no volume %s", m.Name)
		}
	}
	for _, p := range c.Ports {
		ports[p.Name] = true
	}
	for _, p := range []*corev1.Probe{c.StartupProbe, c.LivenessProbe, c.ReadinessProbe} {
		if p == nil || p.HTTPGet == nil || !ports[p.HTTPGet.Port.StrVal] {
			t.Errorf("a probe without a port: %v", p)
		}
	}
	if grace := *pod.TerminationGracePeriodSeconds; c.Lifecycle.PreStop.Sleep == nil || c.Lifecycle.PreStop.Sleep.Seconds+10 >= grace {
		t.Errorf("%d seconds are too few for preStop and shutdown_delay", grace)
	}
}

// TestManifestsConfigurationIsUnderstood gives it to pgagroal -t, with a users file that is empty as in the Secret.
func TestManifestsConfigurationIsUnderstood(t *testing.T) {
	objects, err := decoded(t, manifest(t))
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "pgagroal-kubernetes") // the parent of t.TempDir is closed to other users
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	for name, text := range objects["ConfigMap pgagroal"].(*corev1.ConfigMap).Data {
		text = strings.NewReplacer("/run/pgagroal", dir, "/var/lib/pgagroal", dir).Replace(text)
		// The user of the probes is in the Secret of whoever uses this.
		text = strings.ReplaceAll(text, "health_check_user = monitor\n", "")
		if os.Geteuid() == 0 {
			text = strings.Replace(text, "[pgagroal]\n", "[pgagroal]\nuser = nobody\n", 1)
		}
		if err := os.WriteFile(dir+"/"+name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if os.Geteuid() == 0 {
		nobody := 65534
		if err := os.Chown(dir, nobody, nobody); err != nil {
			t.Fatal(err)
		}
	}
	must(t, "../..", "go", "run", "./cmd/pgagroal", "-t", "-D", dir)
}

func TestAnUnknownFieldOfTheManifestIsSeen(t *testing.T) {
	wrong := bytes.Replace(manifest(t), []byte("  replicas: 2\n"), []byte("  replicas: 2\n  replica: 3\n"), 1)
	if _, err := decoded(t, wrong); err == nil {
		t.Error("the decoder takes a field that doesn't exist")
	}
}
