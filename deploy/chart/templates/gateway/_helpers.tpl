{{/* The namespaces that gateways serve, in JSON; "" is all. */}}
{{- define "keyward.gateway.namespaces" -}}
{{ .Values.gateway.namespaces | default (list "") | toJson }}
{{- end -}}

{{/* The flags about brokers. */}}
{{- define "keyward.gateway.brokers" -}}
{{- with .Values.gateway.rabbitmq }}
{{- if .url }}
- --rabbitmq-url
- {{ .url | quote }}
- --rabbitmq-credentials
- /etc/keyward-rabbitmq/login
{{- include "keyward.gateway.way" (dict "broker" "rabbitmq" "tls" .tls) }}
{{- end }}
{{- end }}
{{- with .Values.gateway.nats }}
{{- if .urls }}
- --nats-url
- {{ join "," .urls | quote }}
- --nats-account
- {{ .account | quote }}
- --nats-login
- /etc/keyward-nats/login
- --nats-system-login
- /etc/keyward-nats/system-login
- --nats-issuer
- /etc/keyward-nats/issuer
{{- if .xkey }}
- --nats-xkey
- /etc/keyward-nats/xkey
{{- end }}
{{- include "keyward.gateway.way" (dict "broker" "nats" "tls" .tls) }}
{{- end }}
{{- end }}
{{- end -}}

{{/* The flags about how a broker is reached by TLS. */}}
{{- define "keyward.gateway.way" -}}
{{- with .tls }}
{{- if .caSecretName }}
- --{{ $.broker }}-ca
- /etc/keyward-{{ $.broker }}-ca/ca.crt
{{- end }}
{{- if .secretName }}
- --{{ $.broker }}-cert
- /etc/keyward-{{ $.broker }}-tls/tls.crt
- --{{ $.broker }}-key
- /etc/keyward-{{ $.broker }}-tls/tls.key
{{- end }}
{{- end }}
{{- end -}}

{{/* The Secrets that gateways read, in JSON: each is mounted at /etc/NAME. Of an authority only its certificate is. */}}
{{- define "keyward.gateway.secrets" -}}
{{- with .Values.gateway -}}
{{- $secrets := dict "keyward" .secretName "keyward-tls" .tls.secretName "keyward-client-ca" .tls.clientCaSecretName -}}
{{- range $broker := list "rabbitmq" "nats" -}}
{{- with index $.Values.gateway $broker -}}
{{- if or .url .urls -}}
{{- $name := printf "keyward-%s" $broker -}}
{{- $_ := set $secrets $name .secretName -}}
{{- $_ := set $secrets (printf "%s-ca" $name) (.tls).caSecretName -}}
{{- $_ := set $secrets (printf "%s-tls" $name) (.tls).secretName -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $named := dict -}}
{{- range $name, $secret := $secrets -}}
{{- if $secret -}}
{{- $_ := set $named $name $secret -}}
{{- end -}}
{{- end -}}
{{- toJson $named -}}
{{- end -}}
{{- end -}}

{{/* Fails where the values of gateways do not fit together. */}}
{{- define "keyward.gateway.check" -}}
{{- $namespaces := include "keyward.gateway.namespaces" . | fromJsonArray -}}
{{- $one := and (eq (len $namespaces) 1) (ne (first $namespaces) "") -}}
{{- with .Values.gateway -}}
{{- if not (or $one (contains "{namespace}" .topicRoot)) -}}
{{- fail "values: set gateway.topicRoot to something that holds {namespace}, such as {namespace}/devices: gateways serve more than one namespace" -}}
{{- end -}}
{{- $stay := int .minAvailable -}}
{{- if hasSuffix "%" (toString .minAvailable) -}}
{{- $stay = ceil (divf (mulf (trimSuffix "%" .minAvailable) .replicas) 100) | int -}}
{{- end -}}
{{- if and (gt (int .replicas) 1) (ge $stay (int .replicas)) -}}
{{- fail "values: set gateway.minAvailable to less than gateway.replicas: no node with a gateway could be drained" -}}
{{- end -}}
{{- if and (.rabbitmq).url (not .rabbitmq.secretName) -}}
{{- fail "values: set gateway.rabbitmq.secretName to a Secret with the entry login, which holds USER:PASSWORD" -}}
{{- end -}}
{{- if and (.nats).urls (not (and .nats.account .nats.secretName)) -}}
{{- fail "values: set gateway.nats.account to the account of devices, and gateway.nats.secretName to a Secret with the entries login, system-login and issuer" -}}
{{- end -}}
{{- if and (.nats).urls (not $one) -}}
{{- fail "values: set gateway.namespaces to the one whose devices connect to NATS: it refuses the client IDs that those of several have" -}}
{{- end -}}
{{- if and $.Values.networkPolicy.enabled (or (.rabbitmq).url (.nats).urls) (not $.Values.networkPolicy.gatewayEgress) -}}
{{- fail "values: set networkPolicy.gatewayEgress to where the broker is, and DNS: gateways could not reach it" -}}
{{- end -}}
{{- end -}}
{{- end -}}
