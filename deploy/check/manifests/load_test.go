package manifests_test

import (
	"os"
	"path/filepath"
	"testing"

	certmanagerv1 "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	_ "k8s.io/kubernetes/pkg/apis/apps/install" // Its types, with their defaults; the same below.
	_ "k8s.io/kubernetes/pkg/apis/core/install"
	_ "k8s.io/kubernetes/pkg/apis/networking/install"
	_ "k8s.io/kubernetes/pkg/apis/policy/install"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

// deploy is the folder of the manifests.
const deploy = "../.."

// kustomizations returns the folders below deploy/ that have a kustomization.
func kustomizations(t *testing.T) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(deploy, "*", "*", "kustomization.yaml"))
	must(t, err)
	shallow, err := filepath.Glob(filepath.Join(deploy, "*", "kustomization.yaml"))
	must(t, err)
	var folders []string
	for _, path := range append(found, shallow...) {
		folders = append(folders, filepath.Dir(path))
	}
	if len(folders) < 2 {
		t.Fatalf("there are only the kustomizations %q", folders)
	}
	return folders
}

// object is one of a kustomization, as Kubernetes decodes it: no field unknown or twice, defaults filled in.
type object struct {
	name string // Kind/name
	runtime.Object
}

// load returns what kustomize makes of a folder.
func load(t *testing.T, folder string) []object {
	t.Helper()
	made, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), folder)
	must(t, err)
	scheme := legacyscheme.Scheme
	must(t, certmanagerv1.AddToScheme(scheme))
	decoder := serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDeserializer()
	var objects []object
	for _, resource := range made.Resources() {
		name := resource.GetKind() + "/" + resource.GetName()
		text, err := resource.AsYAML()
		must(t, err)
		decoded, _, err := decoder.Decode(text, nil, nil)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		scheme.Default(decoded)
		objects = append(objects, object{name, decoded})
	}
	return objects
}

// of returns the objects of a type.
func of[T runtime.Object](objects []object) []T {
	var list []T
	for _, o := range objects {
		if one, ok := o.Object.(T); ok {
			list = append(list, one)
		}
	}
	return list
}

// pods returns the pods that workloads make, by the workload's name.
func pods(objects []object) map[string]*corev1.PodTemplateSpec {
	templates := map[string]*corev1.PodTemplateSpec{}
	for _, o := range objects {
		switch workload := o.Object.(type) {
		case *appsv1.StatefulSet:
			templates[o.name] = &workload.Spec.Template
		case *appsv1.Deployment:
			templates[o.name] = &workload.Spec.Template
		}
	}
	return templates
}

// containers returns all containers of a pod.
func containers(pod *corev1.PodTemplateSpec) []corev1.Container {
	return append(append([]corev1.Container(nil), pod.Spec.InitContainers...), pod.Spec.Containers...)
}

// must fails the test at an error.
func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// readFile reads a file.
func readFile(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	must(t, err)
	return string(data)
}
