{{- define "tallygate.fullname" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "tallygate.facts" -}}
{{- .Files.Get "files/facts.json" -}}
{{- end -}}

{{/* Of a dict with root and name, the process. */}}
{{- define "tallygate.selector" -}}
app.kubernetes.io/name: {{ .root.Chart.Name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
{{- with .name }}
app.kubernetes.io/component: {{ . }}
{{- end }}
{{- end -}}

{{- define "tallygate.labels" -}}
{{ include "tallygate.selector" . }}
app.kubernetes.io/part-of: tallygate
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end -}}

{{/* Of a dict with root and name, whether the process runs: batches are files, and need a place for them. */}}
{{- define "tallygate.runs" -}}
{{- if or (ne .name "batches") (index .root.Values.settings "TALLYGATE_FILES_URL") -}}yes{{- end -}}
{{- end -}}

{{- define "tallygate.image" -}}
{{- $own := .own | default dict -}}
{{- $digest := $own.digest | default (ternary "" .root.Values.image.digest (not (empty $own.tag))) -}}
{{- if $digest -}}
{{ .root.Values.image.repository }}@{{ $digest }}
{{- else -}}
{{ .root.Values.image.repository }}:{{ $own.tag | default .root.Values.image.tag | default .root.Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{- define "tallygate.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "tallygate.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities: {drop: [ALL]}
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{/* The password of a user of Kafka, and the address in which it stands. */}}
{{- define "tallygate.kafka" -}}
{{- $user := printf "%s%s" .root.Values.kafka.userPrefix .name -}}
- name: KAFKA_USER
  value: {{ $user | quote }}
{{- if contains "$(KAFKA_PASSWORD)" .root.Values.kafka.url }}
- name: KAFKA_PASSWORD
  valueFrom: {secretKeyRef: {name: {{ $user }}, key: {{ .root.Values.kafka.passwordKey }}}}
{{- end }}
- name: TALLYGATE_KAFKA_BROKERS
  value: {{ required "kafka.url is needed" .root.Values.kafka.url | quote }}
{{- end -}}

{{/* Likewise of a store: a dict with root, role, store and variable. */}}
{{- define "tallygate.store" -}}
{{- $store := index .root.Values .store -}}
{{- $prefix := upper .store -}}
{{- $url := required (printf "%s.url is needed" .store) $store.url -}}
{{- if contains "$(STORE_PASSWORD)" $url }}
- name: {{ $prefix }}_PASSWORD
  valueFrom:
    secretKeyRef: {name: {{ required (printf "%s.url has a password, so %s.passwordSecret is needed" .store .store) $store.passwordSecret }}, key: {{ .role }}}
{{- end }}
- name: {{ .variable }}
  value: {{ $url | replace "$(STORE_USER)" .role | replace "$(STORE_PASSWORD)" (printf "$(%s_PASSWORD)" $prefix) | quote }}
{{- end -}}

{{/* Variables and secrets of a process: the common ones that it reads, and its own, which it must read. */}}
{{- define "tallygate.own" -}}
{{- $name := .name -}}
{{- $known := .facts.variables -}}
{{- $found := dict -}}
{{- range $variable, $value := .common -}}
{{- if has $variable $known -}}{{- $_ := set $found $variable $value -}}{{- end -}}
{{- end -}}
{{- range $variable, $value := .own -}}
{{- if not (or (has $variable $known) (and (eq $name "dispatcher") (regexMatch "^BACKEND_[A-Za-z0-9_]+_API_KEY$" $variable))) -}}
{{- fail (printf "processes.%s: it reads no %s; see docs/reference/settings.md" $name $variable) -}}
{{- end -}}
{{- $_ := set $found $variable $value -}}
{{- end -}}
{{- toJson $found -}}
{{- end -}}

{{- define "tallygate.autoscaling" -}}
{{- (.autoscaling | default dict).kind | default "none" -}}
{{- end -}}

{{/* What asks whether a process lives: a dict with path, facts and tls. */}}
{{- define "tallygate.probe" -}}
{{- if .tls -}}
exec: {command: [python, -m, deploy.docker.ready, {{ printf "https://localhost:%v%s" .facts.port .path | quote }}]}
{{- else -}}
httpGet: {path: {{ .path }}, port: status}
{{- end -}}
{{- end -}}

{{/* What must not be said: called once for a release. */}}
{{- define "tallygate.check" -}}
{{- $facts := include "tallygate.facts" . | fromJson -}}
{{- $known := list -}}
{{- range $_, $process := $facts.processes -}}{{- $known = concat $known $process.variables -}}{{- end -}}
{{- range $variable, $_ := merge (dict) .Values.settings .Values.secrets -}}
{{- if not (has $variable $known) -}}{{- fail (printf "no process reads %s; see docs/reference/settings.md" $variable) -}}{{- end -}}
{{- end -}}
{{- range $owner := concat (list (dict "settings" .Values.settings "secrets" .Values.secrets)) (values .Values.processes) -}}
{{- range $variable, $_ := $owner.settings -}}
{{- if has $variable $facts.secret -}}{{- fail (printf "%s is a secret: name a Secret under secrets" $variable) -}}{{- end -}}
{{- end -}}
{{- range $variable, $_ := merge (dict) ($owner.settings | default dict) ($owner.secrets | default dict) -}}
{{- if has $variable $facts.given -}}{{- fail (printf "%s has a value of its own in the chart" $variable) -}}{{- end -}}
{{- end -}}
{{- end -}}
{{- range $variable, $_ := .Values.secrets -}}
{{- if hasKey $.Values.settings $variable -}}{{- fail (printf "%s is a setting and a secret" $variable) -}}{{- end -}}
{{- end -}}
{{- range $name, $process := .Values.processes -}}
{{- if eq (include "tallygate.autoscaling" $process) "lag" -}}
{{- if gt (int $process.autoscaling.max) (int $.Values.topics.partitions) -}}
{{- fail (printf "processes.%s.autoscaling.max is above topics.partitions: more than one worker a partition have nothing to do" $name) -}}
{{- end -}}
{{- if not $.Values.keda.bootstrapServers -}}{{- fail "autoscaling by lag needs keda.bootstrapServers" -}}{{- end -}}
{{- end -}}
{{- end -}}
{{- if and .Values.strimzi.enabled (not .Values.strimzi.cluster) -}}{{- fail "strimzi.enabled needs strimzi.cluster" -}}{{- end -}}
{{- if and .Values.route.enabled (not .Values.route.host) -}}{{- fail "route.enabled needs route.host" -}}{{- end -}}
{{- end -}}

{{/* The authorities of brokers and stores. */}}
{{- define "tallygate.trust" -}}
- name: trust
  projected:
    defaultMode: 0444
    sources:
      {{- range .Values.trust }}
      - secret: {name: {{ .secret }}, items: [{key: {{ .key }}, path: {{ .file }}}]}
      {{- end }}
{{- end -}}

{{/* Each step of scaling moves partitions: up at once, down slowly and one by one. */}}
{{- define "tallygate.behavior" -}}
scaleUp:
  stabilizationWindowSeconds: 30
  policies: [{type: Pods, value: 2, periodSeconds: 60}]
scaleDown:
  stabilizationWindowSeconds: 600
  policies: [{type: Pods, value: 1, periodSeconds: 120}]
{{- end -}}
