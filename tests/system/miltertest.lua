-- Run by miltertest, with the globals socket, version, actions and steps: three mails of one session, and each answer.

local conn = mt.connect(socket)
if conn == nil then error("no connection") end

local function say(what, trouble)
	if trouble ~= nil then error(what .. ": " .. tostring(trouble)) end
	mt.echo(what .. " " .. string.char(mt.getreply(conn)))
end

local function mail(sender, id)
	mt.macro(conn, SMFIC_MAIL, "i", id)
	say("mail", mt.mailfrom(conn, sender))
	say("no", mt.rcptto(conn, "<no@example.net>"))
	say("rcpt", mt.rcptto(conn, "<b@example.net>"))
end

local function content()
	if tonumber(version) >= 4 then mt.data(conn) end
	mt.header(conn, "From", "joe@example.org")
	mt.header(conn, "Subject", "x")
	mt.eoh(conn)
	mt.bodystring(conn, "text\r\n")
	say("eom", mt.eom(conn))
	local results = mt.getheader(conn, "Authentication-Results", 0)
	mt.echo("results " .. tostring(results ~= nil and results:match("spf=%a+")))
	mt.echo("hold " .. tostring(mt.eom_check(conn, MT_QUARANTINE)))
end

local trouble = mt.negotiate(conn, tonumber(version), tonumber(actions), tonumber(steps))
if trouble ~= nil then error("negotiate: " .. tostring(trouble)) end
mt.macro(conn, SMFIC_CONNECT, "j", "mx.example")
say("connect", mt.conninfo(conn, "client.example", "192.0.2.1"))
say("helo", mt.helo(conn, "client.example"))
mail("<joe@example.org>", "4Q1")
content()
mail("<gone@example.org>", "4Q2")
mt.abort(conn)
mail("<later@example.org>", "4Q3")
content()
mt.disconnect(conn)
