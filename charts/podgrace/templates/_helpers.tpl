{{/* Names are at most 63 characters, so that they fit into labels and names of Services. */}}

{{- define "podgrace.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "podgrace.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" }}
{{- else }}
{{- $name := include "podgrace.name" . }}
{{- if contains $name .Release.Name }}
{{- .Release.Name | trunc 50 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 50 | trimSuffix "-" }}
{{- end }}
{{- end }}
{{- end }}

{{- define "podgrace.namespace" -}}
{{- default .Release.Namespace .Values.namespaceOverride }}
{{- end }}

{{/* The name of objects without a namespace: it contains the namespace, so that two releases with
the same name do not collide. */}}
{{- define "podgrace.clusterName" -}}
{{- $fullname := include "podgrace.fullname" . }}
{{- $namespace := include "podgrace.namespace" . }}
{{- if eq $fullname $namespace }}
{{- $fullname }}
{{- else }}
{{- printf "%s-%s" $fullname $namespace }}
{{- end }}
{{- end }}

{{- define "podgrace.configurationName" -}}
{{- printf "%s%s" .Values.webhook.namePrefix (include "podgrace.clusterName" .) }}
{{- end }}

{{- define "podgrace.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "podgrace.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "podgrace.tlsSecretName" -}}
{{- if eq .Values.tls.type "provided" }}
{{- .Values.tls.provided.secretName }}
{{- else }}
{{- include "podgrace.fullname" . }}-tls
{{- end }}
{{- end }}

{{- define "podgrace.selectorLabels" -}}
app.kubernetes.io/name: {{ include "podgrace.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: webhook
{{- end }}

{{- define "podgrace.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/name: {{ include "podgrace.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: podgrace
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* An object's metadata. Called with: root, and optionally name, namespace, clusterScoped (true:
no namespace), component, labels, annotations. */}}
{{- define "podgrace.metadata" -}}
{{- $root := .root }}
{{- $own := dict "app.kubernetes.io/component" (default "webhook" .component) }}
{{- $annotations := mergeOverwrite (dict) $root.Values.commonAnnotations (default (dict) .annotations) -}}
name: {{ default (include "podgrace.fullname" $root) .name }}
{{- if not .clusterScoped }}
namespace: {{ default (include "podgrace.namespace" $root) .namespace }}
{{- end }}
labels:
  {{- mergeOverwrite (include "podgrace.labels" $root | fromYaml) $own (default (dict) .labels) | toYaml | nindent 2 }}
{{- with $annotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* An image's full name. Called with: root, image. */}}
{{- define "podgrace.image" -}}
{{- $registry := default .root.Values.global.imageRegistry .root.Values.image.registry }}
{{- $name := .image.repository }}
{{- if not (or $registry (regexMatch "^([^/]*[.:][^/]*|localhost)/" $name)) }}
{{- $registry = "docker.io" }}
{{- end }}
{{- if $registry }}
{{- $name = printf "%s/%s" (trimSuffix "/" $registry) $name }}
{{- end }}
{{- if .image.digest }}
{{- printf "%s@%s" $name .image.digest }}
{{- else }}
{{- printf "%s:%s" $name (default .root.Chart.AppVersion .image.tag) }}
{{- end }}
{{- end }}

{{- define "podgrace.webhookImage" -}}
{{- include "podgrace.image" (dict "root" . "image" .Values.image) }}
{{- end }}

{{/* The configuration file: `config`, and what only the chart knows. */}}
{{- define "podgrace.config" -}}
{{- $config := deepCopy .Values.config }}
{{- $image := include "podgrace.image" (dict "root" . "image" .Values.helperImage) }}
{{- $_ := set $config.helper "image" $image }}
{{- $_ := set $config.helper "imagePullPolicy" (default .Values.image.pullPolicy .Values.helperImage.pullPolicy) }}
{{- $_ := set $config.helper "securityContext" (include "podgrace.helperContext" . | fromYaml) }}
{{- $_ := set $config.kubernetes "version" (default (regexFind "[0-9]+\\.[0-9]+" .Capabilities.KubeVersion.Version) .Values.config.kubernetes.version) }}
{{- $_ := set $config "excludedNamespaces" (include "podgrace.excludedNamespaces" . | fromYamlArray) }}
{{- toYaml $config }}
{{- end }}

{{- define "podgrace.excludedNamespaces" -}}
{{- $own := ternary (list (include "podgrace.namespace" .)) list (eq .Values.mode "webhook") }}
{{- toYaml (concat .Values.config.excludedNamespaces $own | uniq) }}
{{- end }}

{{/* What every matched namespace must fulfil, as matchExpressions. */}}
{{- define "podgrace.namespaceExpressions" -}}
- key: kubernetes.io/metadata.name
  operator: NotIn
  values:
    {{- include "podgrace.excludedNamespaces" . | nindent 4 }}
{{- if .Values.revision }}
- key: podgrace.io/revision
  operator: In
  values:
    - {{ .Values.revision }}
{{- else }}
- key: podgrace.io/revision
  operator: DoesNotExist
{{- end }}
{{- if eq .Values.platform "aks" }}
# AKS adds these to every webhook (Azure/AKS issue 1771); rendered, they cause no drift or conflict.
- key: control-plane
  operator: DoesNotExist
- key: control-plane
  operator: NotIn
  values:
    - "true"
- key: kubernetes.azure.com/managedby
  operator: NotIn
  values:
    - aks
{{- end }}
{{- with .Values.webhook.namespaceExpressions }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* The same namespaces for a policy, which has one selector for Pods of both kinds of opt-in. */}}
{{- define "podgrace.matchConstraints" -}}
matchPolicy: Equivalent
namespaceSelector:
  matchExpressions:
    {{- include "podgrace.namespaceExpressions" . | nindent 4 }}
    - key: podgrace.io/inject
      operator: NotIn
      values:
        - disabled
{{- with .Values.webhook.objectExpressions }}
objectSelector:
  matchExpressions:
    {{- toYaml . | nindent 4 }}
{{- end }}
resourceRules:
  - apiGroups:
      - ""
    apiVersions:
      - v1
    operations:
      - CREATE
    resources:
      - pods
    scope: Namespaced
{{- end }}

{{/* CEL, for the webhook and for policies: leaves out Pods that podgrace never patches. */}}
{{- define "podgrace.matchConditions" -}}
- name: restarts
  expression: "!has(object.spec.restartPolicy) || object.spec.restartPolicy == 'Always'"
- name: not-a-mirror
  expression: "!has(object.metadata.annotations) || !('kubernetes.io/config.mirror' in object.metadata.annotations)"
{{- with .Values.webhook.matchConditions }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* CEL: this Pod is opted in. It says the same as the selectors of the webhook configuration's two
entries; a variable, since matchConditions cannot see the namespace. */}}
{{- define "podgrace.optedIn" -}}
- name: own
  expression: "has(object.metadata.labels) && 'podgrace.io/inject' in object.metadata.labels ? object.metadata.labels['podgrace.io/inject'] : ''"
- name: inherited
  expression: >-
    has(namespaceObject.metadata.labels) && 'podgrace.io/inject' in namespaceObject.metadata.labels
    ? namespaceObject.metadata.labels['podgrace.io/inject'] : ''
- name: optedIn
  expression: "variables.own in ['enabled', 'disabled'] ? variables.own == 'enabled' : variables.inherited == 'enabled'"
{{- end }}

{{- define "podgrace.podSecurityContext" -}}
{{- include "podgrace.without" (dict "context" .Values.podSecurityContext "keys" (ternary (list "runAsUser" "runAsGroup" "fsGroup") list (eq .Values.platform "openshift"))) }}
{{- end }}

{{/* The helper's securityContext: OpenShift's SCCs choose users, and some refuse a seccomp profile,
even the runtime's own. */}}
{{- define "podgrace.helperContext" -}}
{{- include "podgrace.without" (dict "context" .Values.config.helper.securityContext "keys" (ternary (list "runAsUser" "runAsGroup" "seccompProfile") list (eq .Values.platform "openshift"))) }}
{{- end }}

{{/* A securityContext without some keys, and without null values. Called with: context, keys. */}}
{{- define "podgrace.without" -}}
{{- $context := deepCopy .context }}
{{- range $key, $value := .context }}
{{- if or (kindIs "invalid" $value) (has $key $.keys) }}
{{- $_ := unset $context $key }}
{{- end }}
{{- end }}
{{- toYaml $context }}
{{- end }}

{{/* The number of replicas that there are at least. */}}
{{- define "podgrace.replicas" -}}
{{- ternary .Values.autoscaling.minReplicas .Values.replicas .Values.autoscaling.enabled }}
{{- end }}

{{- define "podgrace.selfManaged" -}}
{{- if and (eq .Values.mode "webhook") (eq .Values.tls.type "self-managed") }}true{{ end }}
{{- end }}

{{- define "podgrace.certManager" -}}
{{- if and (eq .Values.mode "webhook") (eq .Values.tls.type "cert-manager") }}true{{ end }}
{{- end }}

{{/* Without a cluster Helm knows the API's versions, but not its kinds; then the version of
Kubernetes decides. */}}
{{- define "podgrace.kindsKnown" -}}
{{- if .Capabilities.APIVersions.Has "apps/v1/Deployment" }}true{{ end }}
{{- end }}

{{- define "podgrace.auditEnabled" -}}
{{- $there := or (not (include "podgrace.kindsKnown" .)) (.Capabilities.APIVersions.Has "admissionregistration.k8s.io/v1/ValidatingAdmissionPolicy") }}
{{- if and .Values.audit.enabled (eq .Values.mode "webhook") $there }}true{{ end }}
{{- end }}

{{- define "podgrace.policyPossible" -}}
{{- if include "podgrace.kindsKnown" . }}
{{- if .Capabilities.APIVersions.Has "admissionregistration.k8s.io/v1/MutatingAdmissionPolicy" }}true{{ end }}
{{- else if semverCompare ">=1.36.0-0" .Capabilities.KubeVersion.Version }}true{{ end }}
{{- end }}

{{- define "podgrace.testNamespace" -}}
{{- default (printf "%s-test" (include "podgrace.clusterName" .) | trunc 63 | trimSuffix "-") .Values.test.namespace }}
{{- end }}

{{/* Annotations of the objects that `helm test` makes. Called with the weight. All are deleted
afterwards, except a failed Pod, which stays for its log. */}}
{{- define "podgrace.testHook" -}}
helm.sh/hook: test
helm.sh/hook-weight: {{ . | quote }}
helm.sh/hook-delete-policy: {{ ternary "before-hook-creation,hook-succeeded" "before-hook-creation,hook-succeeded,hook-failed" (eq . "0") }}
{{- end }}

{{- define "podgrace.testRevision" -}}
{{- with .Values.revision }}
podgrace.io/revision: {{ . }}
{{- end }}
{{- end }}
