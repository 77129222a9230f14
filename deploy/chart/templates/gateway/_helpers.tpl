{{/* Fails where the values of gateways do not fit together. */}}
{{- define "keyward.gateway.check" -}}
{{- with .Values.gateway -}}
{{- $stay := int .minAvailable -}}
{{- if hasSuffix "%" (toString .minAvailable) -}}
{{- $stay = ceil (divf (mulf (trimSuffix "%" .minAvailable) .replicas) 100) | int -}}
{{- end -}}
{{- if and (gt (int .replicas) 1) (ge $stay (int .replicas)) -}}
{{- fail "values: set gateway.minAvailable to less than gateway.replicas: no node with a gateway could be drained" -}}
{{- end -}}
{{- end -}}
{{- end -}}
