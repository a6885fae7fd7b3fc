// peer is a webhook as most people would write it in Go, with controller-runtime, to compare with.
// It makes part of our patch, and has none of the reasons, limits, metrics or log.
//
//	peer PORT tls.crt tls.key
package main

import (
	"context"
	"encoding/json"
	"net/http"
	"os"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"
)

type mutator struct{ decoder admission.Decoder }

func (m *mutator) Handle(_ context.Context, request admission.Request) admission.Response {
	pod := &corev1.Pod{}
	if err := m.decoder.Decode(request, pod); err != nil {
		return admission.Errored(http.StatusBadRequest, err)
	}
	change(pod)
	changed, err := json.Marshal(pod)
	if err != nil {
		return admission.Errored(http.StatusInternalServerError, err)
	}
	return admission.PatchResponseFromRaw(request.Object.Raw, changed)
}

func change(pod *corev1.Pod) {
	spec, always, grace := &pod.Spec, corev1.ContainerRestartPolicyAlways, int64(90)
	mount := corev1.VolumeMount{Name: "podgrace", MountPath: "/.podgrace"}
	drain := corev1.ExecAction{Command: []string{"/.podgrace/podgrace-helper", "drain"}}
	for i := range spec.Containers {
		container := &spec.Containers[i]
		container.Lifecycle = &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{Exec: &drain}}
		container.VolumeMounts = append(container.VolumeMounts, mount)
	}
	sidecar := corev1.Container{Name: "podgrace", Image: "podgrace/podgrace-helper", RestartPolicy: &always}
	sidecar.VolumeMounts = []corev1.VolumeMount{mount}
	spec.InitContainers = append([]corev1.Container{sidecar}, spec.InitContainers...)
	volume := corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}
	spec.Volumes = append(spec.Volumes, corev1.Volume{Name: "podgrace", VolumeSource: volume})
	spec.TerminationGracePeriodSeconds = &grace
}

func main() {
	scheme := runtime.NewScheme()
	_ = corev1.AddToScheme(scheme)
	log.SetLogger(logr.Discard())
	hook := &admission.Webhook{Handler: &mutator{decoder: admission.NewDecoder(scheme)}}
	handler, err := admission.StandaloneWebhook(hook, admission.StandaloneOptions{})
	if err != nil {
		panic(err)
	}
	panic(http.ListenAndServeTLS("127.0.0.1:"+os.Args[1], os.Args[2], os.Args[3], handler))
}
