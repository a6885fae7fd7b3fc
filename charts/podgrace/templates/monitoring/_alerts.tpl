{{/* The default alerts. docs/runbook.md has a section for each; tests check that both, and the
metrics' names, match. */}}
{{- define "podgrace.alerts" -}}
{{- $ns := printf "namespace=%q" (include "podgrace.namespace" .) }}
{{- $entries := printf "name=~%q" "(pod|namespace)[.]podgrace[.]io" }}
{{- $selfManaged := include "podgrace.selfManaged" . }}
- alert: PodgracePodsMissed
  expr: sum(increase(apiserver_validating_admission_policy_check_total{policy="{{ include "podgrace.configurationName" . }}-missed",enforcement_action="audit",error_type="invalid_error"}[15m])) > 0
  severity: warning
  summary: Pods that are labelled for podgrace started without it
  description: The audit policy saw Pods that the webhook should have patched but did not. They will
    lose requests when they stop; replace them once the webhook answers again.
- alert: PodgraceFailsOpen
  expr: sum(increase(apiserver_admission_webhook_fail_open_count{ {{- $entries -}} }[15m])) > 0
  severity: warning
  summary: API servers could not reach the webhook, and let Pods pass
  description: A call failed at the network, at TLS or at the time limit. Pods started without
    protection.
- alert: PodgraceSlow
  expr: histogram_quantile(0.99, sum by (le) (rate(apiserver_admission_webhook_admission_duration_seconds_bucket{ {{- $entries -}} }[10m]))) > {{ divf .Values.webhook.timeoutSeconds 2 }}
  for: 10m
  severity: warning
  summary: The webhook takes more than half of its time limit
  description: By the API servers' own measure, one call in a hundred takes longer than half of the
    {{ .Values.webhook.timeoutSeconds }} s that they wait.
- alert: PodgraceBug
  expr: sum(increase(podgrace_requests_total{ {{- $ns }},result="bug"}[15m])) + sum(increase(podgrace_failures_total{ {{- $ns }}}[15m])) > 0
  severity: warning
  summary: The webhook hit a bug of its own
  description: The Pods were allowed without a patch. The webhook's log names the place; please
    report it.
- alert: PodgraceRefusesCalls
  expr: sum(rate(podgrace_http_responses_total{ {{- $ns }},status=~"4..|5.."}[10m])) / sum(rate(podgrace_http_responses_total{ {{- $ns }}}[10m])) > 0.01
  for: 10m
  severity: warning
  summary: More than one call in a hundred is refused
  description: Something sends requests that no API server sends, or the webhook refuses calls that
    it should answer.
- alert: PodgraceOverloaded
  expr: sum(increase(podgrace_overload_total{ {{- $ns }}}[15m])) > 0
  severity: warning
  summary: The webhook answered calls without deciding
  description: There was no time or no memory left for a decision. Those Pods started without
    protection; give it more replicas.
- alert: PodgraceDown
  expr: absent(podgrace_build_info{ {{- $ns }}})
  for: 10m
  severity: critical
  summary: No webhook reports metrics
  description: None runs, or none is scraped.
- alert: PodgraceReplicasMissing
  expr: kube_deployment_status_replicas_available{ {{- $ns }},deployment="{{ include "podgrace.fullname" . }}"} < kube_deployment_spec_replicas{ {{- $ns }},deployment="{{ include "podgrace.fullname" . }}"}
  for: 15m
  severity: warning
  summary: Fewer webhooks are available than there should be
  description: The others carry the load, as long as they last.
- alert: PodgraceCertificateExpiresSoon
  expr: min(podgrace_certificate_not_after_seconds{ {{- $ns }}}) - time() < {{ include "podgrace.expirySoon" (dict "root" . "part" 4 "days" 14) }}
  for: 15m
  severity: warning
  summary: The certificate that the webhook serves should have been renewed by now
  description: After its end no API server can call the webhook any more.
- alert: PodgraceCertificateExpires
  expr: min(podgrace_certificate_not_after_seconds{ {{- $ns }}}) - time() < {{ include "podgrace.expirySoon" (dict "root" . "part" 8 "days" 7) }}
  for: 15m
  severity: critical
  summary: The certificate that the webhook serves expires within days
  description: After its end no API server can call the webhook any more.
- alert: PodgraceCertificateRefused
  expr: sum(increase(podgrace_certificate_reloads_total{ {{- $ns }},result="refused"}[30m])) > 0
  for: 15m
  severity: warning
  summary: New certificate files cannot be used
  description: The webhook still serves the old pair. Its log says what is wrong with the new one.
{{- if $selfManaged }}
- alert: PodgraceCertificatesUnattended
  expr: time() - max(podgrace_certs_last_success_timestamp_seconds{ {{- $ns }}}) > 3600
  for: 15m
  severity: warning
  summary: No replica could check the certificates for an hour
  description: Nothing is broken as long as the certificate is valid; renewal does not work.
- alert: PodgraceRotationStuck
  expr: max(podgrace_certs_phase{ {{- $ns }},phase="trusting"}) == 1
  for: 6h
  severity: warning
  summary: A new authority is published, but not used
  description: The rotation of the authority started hours ago and has not continued.
{{- end }}
{{- end }}

{{/* Seconds before it expires, by which a certificate should be renewed: a part of a self-managed
one's life, at most so many days. */}}
{{- define "podgrace.expirySoon" -}}
{{- $limit := mul .days 86400 }}
{{- if include "podgrace.selfManaged" .root }}
{{- $life := .root.Values.tls.selfManaged.leafLife }}
{{- $unit := get (dict "s" 1 "m" 60 "h" 3600 "d" 86400) (regexFind "[smhd]$" $life) }}
{{- $limit = min $limit (div (mul (regexFind "^[0-9]+" $life | int) $unit) .part) }}
{{- end }}
{{- $limit }}
{{- end }}
