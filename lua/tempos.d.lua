---@meta tempos
-- Generated from the table of keys in host/control/src/schema.rs: do not edit.

---@class tempos.Channel
---@class tempos.Group

---A rule that gives events another level.
---@class (exact) tempos.LevelRule
---@field match table<string, string|integer|{min?: integer, max?: integer}> Attributes; all must match.
---@field qos string The level.

---Declares a QoS level: a lane with its own threads, queue and marks on the network.
---@class (exact) tempos.QosSpec
---@field rank? integer A higher rank is served before a lower one (strict 200, best-effort 50). From 0 to 255. Default: 100.
---@field scheduler? "other"|"rr"|"fifo"|"deadline" How the system schedules the lane's threads. Default: "other".
---@field priority? integer Real-time priority of the queue worker (rr, fifo). From 1 to 99.
---@field function_priority? integer Real-time priority of the function workers; one below the queue worker's. From 1 to 99.
---@field force? boolean Allows priority 99, which belongs to the kernel's watchdogs. Default: false.
---@field nice? integer Nice value (other). From -20 to 19. Default: 0.
---@field runtime? string CPU time in each period (deadline).
---@field deadline? string Time within which the runtime is given (deadline).
---@field period? string The period (deadline).
---@field cpus? integer[] CPUs that the lane's threads may run on; empty: all. Default: {}.
---@field workers? integer Function workers of the lane. From 1 to 64. Default: 1.
---@field batch? integer Most events moved by one call to a channel (strict: 1). From 1 to 128. Default: 32.
---@field linger? string How long a frame may wait for others so that they leave in one call; none: not at all.
---@field share? integer Least CPU time of its threads whatever runs above them, in percent of a CPU (best-effort: 5). From 0 to 50. Default: 0.
---@field rate? tempos.QosRateSpec How many events leave its queue in a second.
---@field event_max? string Largest event of this level. Default: "64KiB".
---@field queue? tempos.QosQueueSpec The queue of the level.
---@field network? tempos.QosNetworkSpec What the adapters ask of the network.

---The queue of a level.
---@class tempos.QosQueueSpec
---@field policy? string The queue policy plugin. Default: "fifo".
---@field capacity? integer Most events waiting. From 1 to 1048576. Default: 4096.
---@field bytes? string Most bytes of payload waiting; the size of the lane's event pool. Default: "4MiB".
---@field full? "block"|"drop-oldest"|"drop-new" What happens when it is full (strict: drop-new). Default: "drop-oldest".
---@field ttl? string Events older than this are dropped.
---@field [string] any An option of the plugin.

---What the adapters ask of the network for a level.
---@class (exact) tempos.QosNetworkSpec
---@field socket_priority? integer SO_PRIORITY; above 6 needs CAP_NET_ADMIN. From 0 to 15. Default: 0.
---@field dscp? integer Differentiated services code point. From 0 to 63. Default: 0.
---@field pcp? integer VLAN priority code point. From 0 to 7. Default: 0.

---How many events leave the queue of a level in a second.
---@class (exact) tempos.QosRateSpec
---@field min? integer Fewer than these while events wait degrade the level, with a sentence. From 1 to 100000000.
---@field max? integer More than these wait in the queue. From 1 to 100000000.

---Declares a topic: ingress channels, the queue of its level, egress channels.
---@class (exact) tempos.TopicSpec
---@field qos? string The level of its events. Default: "best-effort".
---@field ingress? tempos.Channel[] Where its events come from. Default: {}.
---@field egress? (tempos.Group|tempos.Channel)[] Where they go: subscription groups, or channels that each get every event. Default: {}.
---@field rank? integer Its place among the topics of its lane (policy priority). From 0 to 255. Default: 128.
---@field weight? integer What it weighs among the topics of its lane (policy drr). From 1 to 1000. Default: 1.
---@field share? integer Least part of what its lane serves while it waits, in percent, whatever others weigh (policy drr). From 0 to 100. Default: 0.
---@field deadline? string An event that leaves later than this after its arrival is counted as late.
---@field ttl? string Overrides the level's time to live.
---@field late? "pass"|"drop" What happens to an event that is late already when its turn comes. Default: "pass".
---@field replies? boolean Outputs of workflows come here whose event names this topic in its attribute reply-to. Default: false.
---@field request? tempos.TopicRequestSpec What is asked for in figures; where qos is left out, the controller chooses the level.
---@field allow? tempos.TopicAllowSpec What the controller may choose for the request.
---@field on_unmet? "refuse"|"degrade" What happens where the request cannot be met: the wiring is refused, or the best is given and shown. Default: "refuse".
---@field rules? tempos.LevelRule[] Levels by attributes, the first rule that matches: { match = { kind = "alarm*" }, qos = "strict" }. Default: {}.

---A subscription group: one of its members gets each event. Members are the list part of the table.
---@class (exact) tempos.GroupSpec
---@field [integer] tempos.Channel A member.
---@field pick? "round-robin"|"least-loaded"|"hash"|"sticky" How the member is chosen. Default: "round-robin".
---@field stall? string How long a member may take nothing before the others get its events. Default: "1s".

---A channel of an adapter: tempos.udp { … }, tempos.unix { … }, tempos.channel("ADAPTER", { … }).
---@class tempos.ChannelSpec
---@field name? string Its name; TOPIC/in/N or TOPIC/GROUP/N by default.
---@field qos? string The level of this endpoint, where it is not the topic's.
---@field format? "raw"|"event" Whether frames are bare payloads or carry the event header. Default: "raw".
---@field qos_max? string Ingress: the highest level that its senders may ask for, by an attribute qos or by a rule.
---@field rate? integer Ingress: the most events in a second on the long run. From 1 to 100000000.
---@field producer_rate? integer Ingress: the most events in a second of each sender (address or connection); more are dropped. From 1 to 100000000.
---@field burst? integer Ingress: the most events at once after a pause; a hundredth of a second's by default. From 1 to 1048576.
---@field over_rate? "wait"|"drop" Ingress: whether what is over the rate is read later or dropped. Default: "wait".
---@field in_flight? integer Ingress: the most of its events that the node holds at a time; more are read later. From 1 to 1048576.
---@field event_max? string Ingress: its largest event, where it is not the level's.
---@field duplicates? "pass"|"drop" Ingress: what happens to an event whose id was seen before from the same producer. Default: "pass".
---@field order? "any"|"newer" Ingress: newer drops an event that is not newer, by its id, than the last from its producer. Default: "any".
---@field [string] any An option of the plugin.

---Declares a workflow: topic → function → topic.
---@class (exact) tempos.WorkflowSpec
---@field from string The topic whose events it works on.
---@field to? string|table<string, string> The topic that its output goes to, or { BRANCH = TOPIC }: the function names the branch; `default` is for outputs that name none.
---@field reply? boolean Its output goes to the topic that the event names in its attribute reply-to, else to `to`. Default: false.
---@field group? string The subscription group that it is a member of; one of its own by default.
---@field call tempos.WorkflowCallSpec The function.
---@field request? tempos.TopicRequestSpec What is asked for in figures; where qos is left out, the controller chooses the level.
---@field allow? tempos.TopicAllowSpec What the controller may choose for the request.
---@field on_unmet? "refuse"|"degrade" What happens where the request cannot be met: the wiring is refused, or the best is given and shown. Default: "refuse".

---What a topic or a workflow asks of its quality, in figures. A workflow's hold from the way in of its topic to the way out of the last one.
---@class (exact) tempos.TopicRequestSpec
---@field latency_p99? string 99 of 100 events are through within this.
---@field jitter? string How much longer the slowest may take than the fastest.
---@field rate? string The most events that come, `"1000/s"`; what is granted holds up to it.
---@field loss? number The share of events that may be lost; 0: none.
---@field delivery? "at-most-once"|"at-least-once"|"effectively-once" What is to hold of an event on its way.

---What the controller may choose for a request; an empty list allows everything.
---@class (exact) tempos.TopicAllowSpec
---@field levels? string[] Levels. Default: {}.
---@field policies? string[] Queue policies, and with them the levels that have one of them. Default: {}.
---@field methods? string[] Invocation methods that the functions on the way may have. Default: {}.
---@field settings? boolean Whether settings of channels may be changed that their peers notice, such as acknowledge. Default: false.

---A function and how it is invoked.
---@class tempos.WorkflowCallSpec
---@field method string The invocation method plugin: dlf, …
---@field file string The function's file; relative to the script.
---@field warm? integer Instances kept ready. From 0 to 1024. Default: 1.
---@field warm_max? integer Most instances kept ready; as many as may run at once by default. From 1 to 1024.
---@field idle? string How long an instance above `warm` may have nothing to do before it is let go; with warm = 0 the last one too.
---@field recycle? integer Events after which an instance is replaced by a fresh one. From 1 to 4294967295.
---@field deadline? string The function is stopped or reported late after this long; sooner where its event has less time left.
---@field memory? string Most memory of an instance, where the method can hold it to that.
---@field output_max? string Largest output. Default: "64KiB".
---@field concurrency? integer Events that it may work on at once; 1 keeps their order. From 1 to 64. Default: 1.
---@field inline? boolean Runs on the queue worker itself: for a function that is short and never waits. Default: false.
---@field retry? tempos.WorkflowCallRetrySpec Events that are tried again where the function failed.
---@field canary? tempos.WorkflowCallCanarySpec Other code for a share of the events, beside the function's own.
---@field [string] any An option of the plugin.

---Which events are tried again. It ends with the event's deadline, and later events wait where their order is kept.
---@class (exact) tempos.WorkflowCallRetrySpec
---@field times? integer How often an event is tried again. From 1 to 16. Default: 1.
---@field backoff? string The pause before the first time; each following one is twice as long. Default: "10ms".
---@field outcomes? ("failed"|"killed"|"crashed"|"over-memory"|"bad-output"|"output-too-large"|"not-started")[] Outcomes that are tried again; failed, crashed and not-started where neither they nor codes are given.
---@field codes? integer[] Codes of the function's own that are tried again, 1 to 255. Default: {}.

---Other code for a share of the events. Leave it out to go back; make its file the call's to promote it.
---@class (exact) tempos.WorkflowCallCanarySpec
---@field file string Its file; relative to the script.
---@field share? integer Percent of the events that it gets; their ids decide which. From 0 to 100. Default: 10.

---Calls a function when something happens: `tempos.on("EVENT", { … }, function(e) … end)`; the table may be left out.
---@class (exact) tempos.OnSpec
---@field name? string Only what happens to the object of this name.
---@field hold? string Least time between two calls for one object; without a further one for so long it is over. Default: "1s".

---@class (exact) tempos
tempos = {}

---Declares a QoS level: a lane with its own threads, queue and marks on the network.
---@param name string
---@return fun(fields: tempos.QosSpec)
function tempos.qos(name) end

---Declares a topic: ingress channels, the queue of its level, egress channels.
---@param name string
---@return fun(fields: tempos.TopicSpec)
function tempos.topic(name) end

---A subscription group: one of its members gets each event. Members are the list part of the table.
---@param name string
---@return fun(fields: tempos.GroupSpec): tempos.Group
function tempos.group(name) end

---A channel of the adapter udp.
---@param fields tempos.ChannelSpec
---@return tempos.Channel
function tempos.udp(fields) end

---A channel of the adapter unix.
---@param fields tempos.ChannelSpec
---@return tempos.Channel
function tempos.unix(fields) end

---A channel of the adapter tcp.
---@param fields tempos.ChannelSpec
---@return tempos.Channel
function tempos.tcp(fields) end

---A channel of the adapter shm.
---@param fields tempos.ChannelSpec
---@return tempos.Channel
function tempos.shm(fields) end

---A channel of an adapter: tempos.udp { … }, tempos.unix { … }, tempos.channel("ADAPTER", { … }).
---@param adapter string
---@param fields tempos.ChannelSpec
---@return tempos.Channel
function tempos.channel(adapter, fields) end

---Declares a workflow: topic → function → topic.
---@param name string
---@return fun(fields: tempos.WorkflowSpec)
function tempos.workflow(name) end

---What has happened.
---@class tempos.Happening
---@field event string What has happened.
---@field kind string The kind of object that it has happened to: topic, channel, plugin, workflow, qos, node.
---@field name string Its name.
---@field state "begins"|"goes on"|"ended" Whether it is the first time, again after the hold, or over.
---@field count integer How often since the last call: events that were dropped or late, changes of state.
---@field reason string Why, where that is known.

---Calls a function when something happens.
---@param event "deadline-missed"|"overload"|"channel-down"|"clock-lost"|"plugin-failed"|"grant-changed"
---@param options tempos.OnSpec
---@param handler fun(e: tempos.Happening)
---@overload fun(event: "deadline-missed"|"overload"|"channel-down"|"clock-lost"|"plugin-failed"|"grant-changed", handler: fun(e: tempos.Happening))
function tempos.on(event, options, handler) end

---Changes some keys of what is declared; only in a function of tempos.on.
---@param kind "topic"|"workflow"|"qos"
---@param name string
---@param fields table
function tempos.change(kind, name, fields) end

---The value of an environment variable of the node, or nil.
---@param name string
---@return string?
function tempos.env(name) end

---The name of this machine.
---@return string
function tempos.hostname() end

return tempos
