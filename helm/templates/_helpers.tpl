{{- define "safealley.labels" -}}
app.kubernetes.io/name: {{ .root.Chart.Name }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
{{ include "safealley.selector" . }}
{{- end -}}

{{- define "safealley.selector" -}}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- define "safealley.fullname" -}}
{{ printf "%s-%s" .root.Release.Name .component | trunc 63 | trimSuffix "-" }}
{{- end -}}

{{- define "safealley.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}{{ .repository }}@{{ .digest }}{{- else -}}{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}{{- end -}}
{{- end -}}
{{- end -}}

{{/* The settings file of a service: what the chart knows, under what values.yaml adds. */}}
{{- define "safealley.config" -}}
{{- $known := dict
  "kafka" (dict "bootstrap" .root.Values.kafka.bootstrap)
  "ops" (dict "host" "0.0.0.0" "port" 9090) -}}
apiVersion: v1
kind: ConfigMap
metadata:
  name: {{ include "safealley.fullname" . }}
  labels: {{- include "safealley.labels" . | nindent 4 }}
data:
  settings.yaml: |
    {{- toYaml (mergeOverwrite $known .own (deepCopy .added)) | nindent 4 }}
{{- end -}}

{{- define "safealley.identity" -}}
{{- dict "issuer" .Values.identity.issuer "audience" .Values.identity.audience "jwks_file" "/identity/jwks.json" | toYaml -}}
{{- end -}}

{{/* What every pod of ours has; `.own` adds ports, mounts and volumes. */}}
{{- define "safealley.pod" -}}
metadata:
  labels: {{- include "safealley.labels" . | nindent 4 }}
  annotations:
    checksum/settings: {{ .config | sha256sum }}
spec:
  automountServiceAccountToken: false
  enableServiceLinks: false
  serviceAccountName: {{ .root.Release.Name }}-safealley
  terminationGracePeriodSeconds: {{ .graceSeconds }}
  securityContext:
    runAsNonRoot: true
    runAsUser: 10001
    runAsGroup: 10001
    fsGroup: 10001
    fsGroupChangePolicy: OnRootMismatch
    seccompProfile: {type: RuntimeDefault}
  {{- if .tolerationSeconds }}
  tolerations:
    {{- range list "not-ready" "unreachable" }}
    - {key: node.kubernetes.io/{{ . }}, operator: Exists, effect: NoExecute, tolerationSeconds: {{ $.tolerationSeconds }}}
    {{- end }}
  {{- end }}
  topologySpreadConstraints:
    {{- range list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
    - maxSkew: 1
      topologyKey: {{ . }}
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels: {{- include "safealley.selector" $ | nindent 10 }}
    {{- end }}
  containers:
    - name: {{ .service }}
      image: {{ include "safealley.image" .root }}
      imagePullPolicy: {{ .root.Values.image.pullPolicy }}
      command: [python, -m, services.{{ .service }}, --settings, /settings/settings.yaml]
      env:
        # The name in claims and logs is the pod's.
        - name: SAFEALLEY_NAME
          valueFrom: {fieldRef: {fieldPath: metadata.name}}
        # Half the CPU of a Kafka client is malloc returning memory too early (glibc).
        - {name: MALLOC_MMAP_THRESHOLD_, value: "268435456"}
        - {name: MALLOC_TRIM_THRESHOLD_, value: "268435456"}
        - {name: MALLOC_TOP_PAD_, value: "16777216"}
      ports:
        {{- range $name, $port := .ports }}
        - {name: {{ $name }}, containerPort: {{ $port }}, protocol: TCP}
        {{- end }}
        - {name: ops, containerPort: 9090, protocol: TCP}
      startupProbe:
        httpGet: {path: /healthz, port: ops}
        periodSeconds: 1
        failureThreshold: 30
      livenessProbe:
        httpGet: {path: /healthz, port: ops}
        periodSeconds: 10
        failureThreshold: 3
      readinessProbe:
        httpGet: {path: /readyz, port: ops}
        periodSeconds: 2
      lifecycle:
        preStop: {sleep: {seconds: 5}}
      resources: {{- toYaml .resources | nindent 8 }}
      securityContext:
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities: {drop: [ALL]}
      volumeMounts:
        - {name: settings, mountPath: /settings, readOnly: true}
        - {name: tmp, mountPath: /tmp}
        {{- range .secrets }}
        - {name: {{ .name }}, mountPath: /{{ .name }}, readOnly: true}
        {{- end }}
        {{- range .data }}
        - {name: {{ .name }}, mountPath: /data/{{ .name }}}
        {{- end }}
  volumes:
    - name: settings
      configMap: {name: {{ include "safealley.fullname" . }}}
    - name: tmp
      emptyDir: {sizeLimit: 1Gi}
    {{- range .secrets }}
    - name: {{ .name }}
      secret: {secretName: {{ .secret }}}
    {{- end }}
    {{- range .data }}
    {{- if .claim }}
    - name: {{ .name }}
      persistentVolumeClaim: {claimName: {{ .claim }}}
    {{- end }}
    {{- end }}
{{- end -}}

{{- define "safealley.pdb" -}}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ include "safealley.fullname" . }}
  labels: {{- include "safealley.labels" . | nindent 4 }}
spec:
  maxUnavailable: 1
  unhealthyPodEvictionPolicy: AlwaysAllow
  selector:
    matchLabels: {{- include "safealley.selector" . | nindent 6 }}
{{- end -}}

{{- define "safealley.service" -}}
apiVersion: v1
kind: Service
metadata:
  name: {{ include "safealley.fullname" . }}
  labels: {{- include "safealley.labels" . | nindent 4 }}
spec:
  {{- if .headless }}
  clusterIP: None
  publishNotReadyAddresses: true
  {{- end }}
  selector: {{- include "safealley.selector" . | nindent 4 }}
  ports:
    {{- range $name, $port := .ports }}
    - {name: {{ $name }}, port: {{ $port }}, targetPort: {{ $name }}}
    {{- end }}
    - {name: ops, port: 9090, targetPort: ops}
{{- end -}}

{{- define "safealley.deployment" -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ include "safealley.fullname" . }}
  labels: {{- include "safealley.labels" . | nindent 4 }}
spec:
  replicas: {{ .replicas }}
  minReadySeconds: 5
  {{- if .recreate }}
  strategy: {type: Recreate}
  {{- else }}
  strategy:
    rollingUpdate: {maxSurge: 1, maxUnavailable: 0}
  {{- end }}
  selector:
    matchLabels: {{- include "safealley.selector" . | nindent 6 }}
  template: {{- include "safealley.pod" . | nindent 4 }}
{{- end -}}
