package prescription

// Substances of the Misuse of Drugs Regulations 2001 (as amended to 2025), Schedules 1 to 3, by the words that name them alone: British
// approved and international names, the commoner brands in the United Kingdom. Each list is sorted. It is a safety net and not the
// authority: a dm+d extract decides by code where one is imported.
var (
	schedule1 = []string{
		"brolamfetamine", "bromodimethoxyphenethylamine", "bufotenine", "cannabinol", "cannabis", "cathinone", "coca", "dimethyltryptamine",
		"dmt", "eticyclidine", "etryptamine", "khat", "lsd", "lysergamide", "lysergide", "mda", "mdma", "mephedrone", "mescaline",
		"methcathinone", "methoxetamine", "methylenedioxyamphetamine", "methylenedioxymethamfetamine", "methylenedioxymethamphetamine",
		"naphyrone", "psilocin", "psilocybin", "psilocybine", "rolicyclidine", "tenamfetamine", "tenocyclidine",
	}

	schedule2 = []string{
		"abstral", "abtard", "acetorphine", "actimorph", "actiq", "affenid", "alfentanil", "allylprodine", "alphacetylmethadol", "alphameprodine",
		"alphamethadol", "alphaprodine", "amfetamine", "amfetamines", "amfexa", "amineptine", "amphetamine", "anileridine", "ationdo", "ayendi",
		"bedrocan", "benzethidine", "benzylmorphine", "betacetylmethadol", "betameprodine", "betamethadol", "betaprodine", "bezitramide", "breakyl",
		"candox", "carexil", "carfentanil", "cesamet", "clonitazene", "cocaine", "codoxime", "concerta", "cyclimorph", "delmosart", "desomorphine",
		"dexamfetamine", "dexamphetamine", "dexedrine", "dexmethylphenidate", "dextroamphetamine", "dextromoramide", "diamorphine", "diampromide",
		"diconal", "diethylthiambutene", "dihydroetorphine", "dihydromorphine", "dimenoxadole", "dimepheptanol", "dimethylthiambutene", "dioxaphetyl",
		"dipipanone", "dolocodon", "dromoran", "dronabinol", "drotebanol", "durogesic", "durophet", "dzuveo", "ecgonine", "effentora", "elvanse",
		"eptadone", "equasym", "esketamine", "ethylmethylthiambutene", "etonitazene", "etorphine", "etoxeridine", "fencino", "fenethylline",
		"fenetylline", "fentalis", "fentanil", "fentanyl", "filnarine", "focusim", "furethidine", "ghb", "glutethimide", "heroin", "hydrocodone",
		"hydromorphinol", "hydromorphone", "hydroxybutyrate", "hydroxypethidine", "hypnorm", "instanyl", "ionsys", "isomethadone", "ixyldone",
		"ketalar", "ketamine", "ketobemidone", "lefetamine", "leveraxo", "levomethorphan", "levomoramide", "levophenacylmorphan", "levorphanol",
		"lisdexamfetamine", "lisdexamphetamine", "lofentanil", "longtec", "lynlor", "marinol", "matoride", "matrifen", "mecloqualone", "medikinet",
		"meflynate", "meperidine", "metazocine", "methadone", "methadose", "methadyl", "methamfetamine", "methamphetamine", "methaqualone",
		"metharose", "methylamphetamine", "methyldesorphine", "methyldihydromorphine", "methylphenidate", "metopon", "metyrol", "mezolar",
		"morpheridine", "morphgesic", "mst", "mxl", "myloxifin", "myrophine", "nabilone", "narphen", "nicodicodine", "nicomorphine", "noracymethadol",
		"norlevorphanol", "normethadone", "normorphine", "norpipanone", "oliceridine", "omnopon", "onexila", "opiodur", "opium", "oripavine", "osmach",
		"oxeltra", "oxyact", "oxybate", "oxycodone", "oxycontin", "oxylan", "oxymorphone", "oxynorm", "oxypro", "palexia", "palfium", "palladone",
		"pamergan", "papaveretum", "pecfent", "pethidine", "phenadoxone", "phenampromide", "phenazocine", "phencyclidine", "phenmetrazine",
		"phenomorphan", "phenoperidine", "physeptone", "piminodine", "piritramide", "preludin", "proheptazine", "properidine", "proxamol",
		"quinalbarbitone", "racemethorphan", "racemoramide", "racemorphan", "rapifen", "recivit", "reltebon", "remifentanil", "renocontin", "ritalin",
		"secobarbital", "seconal", "sevredol", "shortec", "spravato", "sublimaze", "sufentanil", "synastone", "tapentadol", "targinact",
		"tetrahydrocannabinol", "thebacon", "thebaine", "tilidate", "tilidine", "tilofyl", "tranquilyn", "trimeperidine", "tuinal", "ultiva",
		"vesierra", "victanyl", "xaggitin", "xenidate", "xyrem", "yemex", "zalviso", "zipeprol", "zomestine", "zomorph",
	}

	schedule3 = []string{
		"allobarbital", "alzain", "amfepramone", "amobarbital", "amylobarbitone", "amytal", "apisate", "aprobarbital", "axalid", "barbital",
		"barbitone", "benzfetamine", "benzphetamine", "buccolam", "bunov", "bupeaze", "bupramyl", "buprenorphine", "butalbital", "butec",
		"butobarbital", "butobarbitone", "butrans", "buvidal", "cathine", "chlorphentermine", "cyclobarbital", "diethylpropion", "dromadol",
		"duromine", "epistatus", "equagesic", "equanil", "espranor", "ethchlorvynol", "ethinamate", "flunitrazepam", "fortagesic", "fortral",
		"gabapentin", "gabup", "gardenal", "hapoctasin", "heptabarbital", "hexethal", "hypnovel", "ionamin", "larapam", "lecaent", "luminal", "lyrica",
		"mabron", "marol", "maxitram", "mazindol", "mephentermine", "meprobamate", "methylphenobarbital", "methylphenobarbitone", "methyprylon",
		"midazolam", "natzon", "nembutal", "neurontin", "normison", "panitaz", "pentazocine", "pentobarbital", "pentobarbitone", "phendimetrazine",
		"phenobarbital", "phenobarbitone", "phentermine", "pipradrol", "prefibin", "pregabalin", "prominal", "reletrans", "relevtec", "rewisca",
		"rohypnol", "sevodyne", "sixmo", "skudexa", "soneryl", "suboxone", "subutex", "talbutal", "temazepam", "temgesic", "tenuate", "tephine",
		"teronac", "tilodol", "tradorec", "tramacet", "tramadol", "tramake", "tramquel", "tramulief", "transtec", "vinbarbital", "zamadol", "zeridame",
		"zubsolv", "zydol",
	}

	// exemptible substances are in Schedule 2, but in Schedule 5 when mixed down to little and not for injection (Schedule 2, paragraph 6;
	// Schedule 5, paragraph 2). Morphine (Schedule 5, paragraph 3) is looked at apart.
	exemptible = []string{"acetyldihydrocodeine", "codeine", "dextropropoxyphene", "difenoxin", "dihydrocodeine", "diphenoxylate", "ethylmorphine", "nicocodine", "norcodeine", "pholcodine", "propiram"}
)
