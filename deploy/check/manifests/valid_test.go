package manifests_test

import (
	"path/filepath"
	"strings"
	"testing"

	certmanagerv1 "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	podutil "k8s.io/kubernetes/pkg/api/pod"
	"k8s.io/kubernetes/pkg/apis/apps"
	appsvalidation "k8s.io/kubernetes/pkg/apis/apps/validation"
	"k8s.io/kubernetes/pkg/apis/core"
	corevalidation "k8s.io/kubernetes/pkg/apis/core/validation"
	"k8s.io/kubernetes/pkg/apis/networking"
	networkingvalidation "k8s.io/kubernetes/pkg/apis/networking/validation"
	"k8s.io/kubernetes/pkg/apis/policy"
	policyvalidation "k8s.io/kubernetes/pkg/apis/policy/validation"
	podsecurity "k8s.io/pod-security-admission/api"
	standards "k8s.io/pod-security-admission/policy"
)

// Kubernetes takes each object: its own code decodes it strictly, fills in defaults and validates it.
func TestKubernetesTakesThem(t *testing.T) {
	for _, folder := range kustomizations(t) {
		t.Run(filepath.Base(folder), func(t *testing.T) {
			for _, o := range load(t, folder) {
				for _, wrong := range validate(t, o) {
					t.Errorf("%s: %v", o.name, wrong)
				}
			}
		})
	}
}

// validate returns what Kubernetes would refuse of an object. Its types of cert-manager are decoded alone: its validation is not to be
// had as a library.
func validate(t *testing.T, o object) field.ErrorList {
	t.Helper()
	switch o.Object.(type) {
	case *appsv1.StatefulSet:
		var internal apps.StatefulSet
		convert(t, o, &internal)
		return appsvalidation.ValidateStatefulSet(&internal, podutil.GetValidationOptionsFromPodTemplate(&internal.Spec.Template, nil))
	case *appsv1.Deployment:
		var internal apps.Deployment
		convert(t, o, &internal)
		return appsvalidation.ValidateDeployment(&internal, podutil.GetValidationOptionsFromPodTemplate(&internal.Spec.Template, nil))
	case *corev1.Service:
		var internal core.Service
		convert(t, o, &internal)
		// As the API server does before it validates.
		if internal.Spec.ClusterIP != "" {
			internal.Spec.ClusterIPs = []string{internal.Spec.ClusterIP}
		}
		return corevalidation.ValidateServiceCreate(&internal)
	case *corev1.ConfigMap:
		var internal core.ConfigMap
		convert(t, o, &internal)
		return corevalidation.ValidateConfigMap(&internal)
	case *corev1.ServiceAccount:
		var internal core.ServiceAccount
		convert(t, o, &internal)
		return corevalidation.ValidateServiceAccount(&internal)
	case *corev1.Namespace:
		var internal core.Namespace
		convert(t, o, &internal)
		return corevalidation.ValidateNamespace(&internal)
	case *networkingv1.NetworkPolicy:
		var internal networking.NetworkPolicy
		convert(t, o, &internal)
		return networkingvalidation.ValidateNetworkPolicy(&internal, networkingvalidation.NetworkPolicyValidationOptions{})
	case *policyv1.PodDisruptionBudget:
		var internal policy.PodDisruptionBudget
		convert(t, o, &internal)
		return policyvalidation.ValidatePodDisruptionBudget(&internal, policyvalidation.PodDisruptionBudgetValidationOptions{})
	case *certmanagerv1.Certificate, *certmanagerv1.Issuer:
		return nil
	}
	t.Errorf("%s: no test validates a %T", o.name, o.Object)
	return nil
}

// convert makes what Kubernetes validates of what is decoded.
func convert(t *testing.T, o object, internal any) {
	t.Helper()
	must(t, legacyscheme.Scheme.Convert(o.Object, internal, nil))
}

// A broken manifest is refused: what the tests rest on can fail.
func TestWhatIsWrongIsFound(t *testing.T) {
	objects := load(t, filepath.Join(deploy, "kubernetes", "sidecar"))
	for name, plant := range map[string]func(*appsv1.StatefulSet){
		"selector":     func(s *appsv1.StatefulSet) { s.Spec.Selector.MatchLabels["app.kubernetes.io/name"] = "another" },
		"volumeMounts": func(s *appsv1.StatefulSet) { s.Spec.Template.Spec.InitContainers[0].VolumeMounts[0].Name = "nowhere" },
		"Probe":        func(s *appsv1.StatefulSet) { s.Spec.Template.Spec.InitContainers[0].RestartPolicy = nil },
	} {
		broken := of[*appsv1.StatefulSet](objects)[0].DeepCopy()
		plant(broken)
		found := validate(t, object{"broken", broken})
		if len(found) == 0 || !strings.Contains(found.ToAggregate().Error(), name) {
			t.Errorf("%s: %v", name, found)
		}
	}
}

// Every pod is let in where the strictest of Kubernetes' standards is enforced, can write to its volumes alone, and has no token of
// Kubernetes.
func TestPodsAreRestricted(t *testing.T) {
	evaluator, err := standards.NewEvaluator(standards.DefaultChecks(), nil)
	must(t, err)
	restricted := podsecurity.LevelVersion{Level: podsecurity.LevelRestricted, Version: podsecurity.LatestVersion()}
	for _, folder := range kustomizations(t) {
		objects := load(t, folder)
		for name, pod := range pods(objects) {
			result := standards.AggregateCheckResults(evaluator.EvaluatePod(restricted, &pod.ObjectMeta, &pod.Spec))
			if !result.Allowed {
				t.Errorf("%s %s: %s", folder, name, result.ForbiddenDetail())
			}
			if mounted := pod.Spec.AutomountServiceAccountToken; mounted == nil || *mounted {
				t.Errorf("%s %s: a token of Kubernetes is mounted", folder, name)
			}
			for _, c := range containers(pod) {
				if c.SecurityContext == nil || c.SecurityContext.ReadOnlyRootFilesystem == nil || !*c.SecurityContext.ReadOnlyRootFilesystem {
					t.Errorf("%s %s: %s can write to its root", folder, name, c.Name)
				}
				if c.Resources.Requests.Cpu().IsZero() || c.Resources.Requests.Memory().IsZero() || c.Resources.Limits.Memory().IsZero() {
					t.Errorf("%s %s: %s has no requests, or no limit of memory", folder, name, c.Name)
				}
			}
		}
	}
}

// What an object names is there: configuration, secrets, accounts, issuers, and pods behind selectors.
func TestNamesLeadSomewhere(t *testing.T) {
	for _, folder := range kustomizations(t) {
		objects := load(t, folder)
		there := map[string]bool{}
		for _, o := range objects {
			there[o.name] = true
		}
		for _, c := range of[*certmanagerv1.Certificate](objects) {
			there["Secret/"+c.Spec.SecretName] = true
			if !there["Issuer/"+c.Spec.IssuerRef.Name] {
				t.Errorf("%s: the certificate %s names the issuer %s", folder, c.Name, c.Spec.IssuerRef.Name)
			}
		}
		// Secrets that the page says how to make.
		page := ""
		for _, path := range []string{filepath.Join(folder, "README.md"), filepath.Join(filepath.Dir(folder), "README.md")} {
			if text, err := filepath.Glob(path); err == nil && len(text) == 1 {
				page += readFile(t, path)
			}
		}
		want := func(name, by string) {
			secret, isSecret := strings.CutPrefix(name, "Secret/")
			if !there[name] && (!isSecret || !strings.Contains(page, "create secret generic "+secret+" ")) {
				t.Errorf("%s: %s names %s, which is not there", folder, by, name)
			}
		}
		templates := pods(objects)
		for name, pod := range templates {
			want("ServiceAccount/"+pod.Spec.ServiceAccountName, name)
			for _, volume := range pod.Spec.Volumes {
				for _, source := range sources(volume) {
					want(source, name)
				}
			}
		}
		selects := func(selector labels.Selector, by string) {
			for _, pod := range templates {
				if selector.Matches(labels.Set(pod.Labels)) {
					return
				}
			}
			t.Errorf("%s: %s selects no pod", folder, by)
		}
		for _, s := range of[*corev1.Service](objects) {
			selects(labels.SelectorFromSet(s.Spec.Selector), s.Name)
		}
		for _, n := range of[*networkingv1.NetworkPolicy](objects) {
			selector, err := metav1.LabelSelectorAsSelector(&n.Spec.PodSelector)
			must(t, err)
			selects(selector, n.Name)
		}
		for _, b := range of[*policyv1.PodDisruptionBudget](objects) {
			selector, err := metav1.LabelSelectorAsSelector(b.Spec.Selector)
			must(t, err)
			selects(selector, b.Name)
		}
	}
}

// sources returns the configuration and the secrets that a volume is made of.
func sources(volume corev1.Volume) []string {
	var names []string
	if volume.ConfigMap != nil {
		names = append(names, "ConfigMap/"+volume.ConfigMap.Name)
	}
	if volume.Secret != nil {
		names = append(names, "Secret/"+volume.Secret.SecretName)
	}
	if volume.Projected == nil {
		return names
	}
	for _, source := range volume.Projected.Sources {
		if source.ConfigMap != nil {
			names = append(names, "ConfigMap/"+source.ConfigMap.Name)
		}
		if source.Secret != nil {
			names = append(names, "Secret/"+source.Secret.Name)
		}
	}
	return names
}
