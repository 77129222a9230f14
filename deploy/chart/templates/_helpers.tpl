{{/* The labels of a component: (dict "root" $ "component" "gateway"). */}}
{{- define "keyward.labels" -}}
app.kubernetes.io/name: keyward
{{- with .component }}
app.kubernetes.io/component: {{ . }}
{{- end }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* By what the Pods of a component are found. */}}
{{- define "keyward.selector" -}}
app.kubernetes.io/name: keyward
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{/* An image, (dict "root" $ "image" .Values.image): by its digest if there is one. */}}
{{- define "keyward.image" -}}
{{- $tag := .image.tag | default .root.Chart.AppVersion -}}
{{ .image.repository }}{{ if .image.digest }}@{{ .image.digest }}{{ else }}:{{ $tag }}{{ end }}
{{- end -}}

{{/* What all containers have in common: they change nothing, and may do nothing but their work. */}}
{{- define "keyward.confined" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{/* What all Pods have in common. */}}
{{- define "keyward.unprivileged" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{/* Where the Pods of a component run, and who goes first: (dict "root" $ "values" .Values.gateway). */}}
{{- define "keyward.placement" -}}
{{- if .values.priorityClassName }}
priorityClassName: {{ .values.priorityClassName }}
{{- else if (.root.Values.priorityClass).create }}
priorityClassName: keyward
{{- end }}
{{- with .values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* Fails where values do not fit together. */}}
{{- define "keyward.check" -}}
{{- if and .Values.allNamespaces .Values.namespaces -}}
{{- fail "values: set namespaces or allNamespaces, not both" -}}
{{- end -}}
{{- if .Values.gateway.enabled -}}
{{- include "keyward.gateway.check" . -}}
{{- end -}}
{{- with .Values.mosquitto -}}
{{- if .enabled -}}
{{- if eq (empty .namespaces) (not .allNamespaces) -}}
{{- fail "values: set mosquitto.namespaces to those whose devices connect, or mosquitto.allNamespaces to true, and not both" -}}
{{- end -}}
{{- if and (or .allNamespaces (gt (len .namespaces) 1)) (not (contains "{namespace}" .topicRoot)) -}}
{{- fail "values: set mosquitto.topicRoot to something that holds {namespace}, such as {namespace}/devices: it serves more than one namespace" -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Lets a component read keys and devices: (dict "root" $ "component" "gateway" "namespaces" (list "")), where "" is all. */}}
{{- define "keyward.reads" -}}
{{- $ := . -}}
{{- range $namespace := .namespaces }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ ternary "RoleBinding" "ClusterRoleBinding" (ne $namespace "") }}
metadata:
  name: keyward-{{ $.component }}
  {{- with $namespace }}
  namespace: {{ . }}
  {{- end }}
  labels:
    {{- include "keyward.labels" $ | nindent 4 }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: ClusterRole
  name: keyward-gateway
subjects:
  - kind: ServiceAccount
    name: keyward-{{ $.component }}
    namespace: {{ $.root.Release.Namespace }}
{{- end }}
{{- end -}}
